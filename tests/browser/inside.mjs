// The tab "Look inside".

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { pageTest } from "./browser.mjs";
import { images } from "./service.mjs";

const file = () => join(images, "cat", readdirSync(join(images, "cat")).sort()[1]);

/** Open the tab with an image of ours. */
async function openImage(page) {
  await page.waitForSelector(".maps img");
  await page.setInputFiles("#inside input[type=file]", file());
  await page.waitForSelector('.sum img[alt^="00001.jpg"]');
  await page.waitForSelector(".maps img");
}

async function ask(url, path) {
  const answer = await fetch(new URL(path, url), { method: "POST", body: readFileSync(file()), headers: { "Content-Type": "application/octet-stream" } });
  return answer.json();
}

pageTest("a layer's maps, strongest first", { tab: "inside" }, async (page, { url }) => {
  await openImage(page);
  await page.click('.net [data-block="conv2"]');
  await page.waitForSelector('.maps[aria-label="conv2"] img');
  const shown = await page.$$eval(".maps [role=option]", (all) => all.map((one) => Number(one.dataset.unit)));
  const { maps } = await ask(url, `v1/explain/maps?model=first&layer=conv2&count=${shown.length}`);
  assert.deepEqual(shown, maps.map((map) => map.unit));
  assert.ok(maps.every((map, at) => at === 0 || map.max <= maps[at - 1].max));
});

pageTest("a unit's box is the API's, and its strongest images come", { tab: "inside" }, async (page, { url }) => {
  await openImage(page);
  await page.click(".maps [role=option] >> nth=3");
  await page.waitForSelector(".field .boxed");
  const unit = await page.getAttribute('.maps [aria-selected="true"]', "data-unit");
  const { receptive_field: field } = await ask(url, `v1/explain/unit?model=first&layer=conv1&unit=${unit}`);
  assert.equal(await page.getAttribute(".field .boxed", "data-box"), field.box.join(" "));
  const [top, left, bottom, right] = field.box;
  const drawn = await page.$eval(".field .line", (line) => ["x", "y", "width", "height"].map((name) => Number(line.getAttribute(name))));
  assert.deepEqual(drawn, [left, top, right - left, bottom - top]);
  await page.waitForSelector(".excite img", { timeout: 60_000 });
  const { images: strongest } = await (await fetch(new URL(`v1/units?model=first&layer=conv1&unit=${unit}&count=9`, url))).json();
  const boxes = await page.$$eval(".excite .boxed", (all) => all.map((one) => one.dataset.box));
  assert.deepEqual(boxes, strongest.map((image) => image.box.join(" ")));
});

pageTest("where it looked: each method draws, occlusion to its end", { tab: "inside" }, async (page) => {
  await openImage(page);
  for (const method of ["gradient", "gradcam", "occlusion"]) {
    await page.click(`.attention button[value=${method}]`);
    await page.waitForFunction(isPainted);
  }
  await page.waitForFunction(() => /\d\s%/.test(document.querySelector(".found").textContent));
});

pageTest("another class has another map", { tab: "inside" }, async (page) => {
  await openImage(page);
  await page.waitForFunction(isPainted);
  const before = await page.evaluate(() => document.querySelector(".stage canvas").toDataURL());
  await page.click(".attention [role=option] >> nth=1");
  await page.waitForFunction((old) => document.querySelector(".stage canvas").toDataURL() !== old, before);
});

pageTest("by keyboard alone: from the tabs to a unit", { tab: "inside" }, async (page) => {
  await page.waitForSelector(".maps img");
  await page.focus('[role="tab"][aria-selected="true"]');
  await tabTo(page, ".net [role=option]");
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("Enter");
  await page.waitForSelector('.maps[aria-label="conv2"] img');
  await tabTo(page, ".maps [role=option]");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press(" ");
  await page.waitForSelector(".field .boxed");
  const position = await page.$$eval(".maps [role=option]", (all) => all.findIndex((one) => one.getAttribute("aria-selected") === "true"));
  assert.ok(position > 1);
});

pageTest("nearest images have their classes", { tab: "inside" }, async (page, { url }) => {
  await openImage(page);
  await page.waitForSelector(".neighbors img", { timeout: 60_000 });
  const { neighbors } = await ask(url, "v1/neighbors?model=first&top_k=10");
  const shown = await page.$$eval(".neighbors li span:first-of-type", (all) => all.map((one) => one.textContent));
  assert.deepEqual(shown, neighbors.map((neighbor) => neighbor.class));
});

function isPainted() {
  const canvas = document.querySelector(".stage canvas");
  const empty = document.createElement("canvas");
  Object.assign(empty, { width: canvas.width, height: canvas.height });
  return canvas.toDataURL() !== empty.toDataURL();
}

/** Press Tab until an element that a selector names has the focus. */
async function tabTo(page, selector) {
  for (let press = 0; press < 40; press += 1) {
    await page.keyboard.press("Tab");
    if (await page.evaluate((wanted) => document.activeElement.matches(wanted), selector)) return;
  }
  assert.fail(`Tab does not reach ${selector}`);
}
