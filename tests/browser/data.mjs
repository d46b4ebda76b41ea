// The tab "Data and mistakes".

import assert from "node:assert/strict";

import { pageTest } from "./browser.mjs";

const WAIT = { timeout: 60_000 }; // the scores are computed first

pageTest("a cell opens exactly its images", { tab: "data" }, async (page, { url }) => {
  await page.waitForSelector("#data .matrix", WAIT);
  const cell = page.locator("#data .matrix .miss:not([data-count='0'])").first();
  await cell.click();
  await page.waitForSelector("#data .cell img");
  const classes = await page.$$eval("#data .matrix tbody th", (all) => all.map((one) => one.textContent));
  const [label, predicted, count] = await cell.evaluate(({ dataset }) => [dataset.true, dataset.predicted, dataset.count].map(Number));
  const query = new URLSearchParams({ model: "first", split: "val", true: classes[label], predicted: classes[predicted] });
  const { images } = await (await fetch(new URL(`v1/dataset/cell?${query}`, url))).json();
  const shown = await page.$$eval("#data .cell img", (all) => all.map((one) => one.getAttribute("src")));
  assert.equal(shown.length, count);
  assert.deepEqual(shown, images.map(({ image }) => new URL(image, url).href));
});

pageTest("a mistake is shown large, and looked into", { tab: "data" }, async (page) => {
  await page.waitForSelector("#data .matrix", WAIT);
  await page.click("#data [data-view=mistakes]");
  await page.click("#data .thumbnail >> nth=0");
  const name = await page.textContent("#lightbox-name");
  await page.keyboard.press("ArrowRight");
  await page.waitForFunction((first) => document.querySelector("#lightbox-name").textContent !== first, name);
  await page.click(".lightbox .primary");
  await page.waitForSelector("#inside .maps img");
});

pageTest("every view has something to say", { tab: "data" }, async (page) => {
  await page.waitForSelector("#data .matrix", WAIT);
  for (const view of ["suspects", "classes"]) {
    await page.click(`#data [data-view=${view}]`);
    await page.waitForSelector("#data .data-view img, #data .data-view td, #data .data-view p", WAIT);
    assert.equal(await page.locator("#data p.error").count(), 0);
  }
});
