// The exported page: the network runs in the browser, behind a plain file server.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { assertAccessible, assertFits, pageTest } from "./browser.mjs";
import { alexnet, images, model } from "./service.mjs";
import { answerOf } from "./static_page.mjs";

const site = "exported";
const INT8 = 0.01; // of a probability: the weights are rounded
const PHONE = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true };
const files = () => readdirSync(images).sort().map((label) => join(images, label, readdirSync(join(images, label)).sort()[2]));

/** Open "Look inside" with an image of ours. */
async function lookInside(page, file = files()[0]) {
  await page.setInputFiles("#inside input[type=file]", file);
  await page.waitForSelector(".maps img");
}

pageTest("exported: the answers are those of alexnet predict", { site }, async (page) => {
  const chosen = files();
  const printed = alexnet("predict", model, ...chosen, "--json", "--crops", "1", "--device", "cpu", "--precision", "fp32");
  const predictions = JSON.parse(printed);
  for (const [at, file] of chosen.entries()) {
    const { predictions: [{ top }] } = await answerOf(page, readFileSync(file));
    const expected = new Map(predictions[at].top.map((answer) => [answer.class, answer.probability]));
    const [first, second] = [...expected.values()];
    if (first - second > INT8) assert.equal(top[0].class, [...expected.keys()][0], file);
    for (const answer of top.filter((one) => expected.has(one.class))) {
      assert.ok(Math.abs(answer.probability - expected.get(answer.class)) < INT8, `${file}: ${answer.class}`);
    }
  }
});

pageTest("exported: chosen images have five answers, a bad file says so", { site }, async (page) => {
  const bad = { name: "bad.jpg", mimeType: "image/jpeg", buffer: Buffer.from("no image") };
  const good = files().slice(0, 2).map((path) => ({ name: path, mimeType: "image/jpeg", buffer: readFileSync(path) }));
  await page.setInputFiles("#try input[type=file]", [good[0], bad, good[1]]);
  await page.waitForFunction(() => document.querySelectorAll(".result .bars li").length === 10);
  assert.match(await page.textContent(".result:nth-child(2) .error"), /cannot read the file/);
});

pageTest("exported: maps, the strongest first, and a unit's field", { site, tab: "inside" }, async (page) => {
  await lookInside(page);
  await page.click('.net [data-block="conv2"]');
  await page.waitForSelector('.maps[aria-label="conv2"] img');
  const largest = await page.$$eval(".maps .max", (all) => all.map((one) => Number(one.textContent)));
  assert.deepEqual(largest, [...largest].sort((a, b) => b - a));
  await page.click(".maps [role=option] >> nth=2");
  await page.waitForSelector(".field .boxed");
  const [top, left, bottom, right] = (await page.getAttribute(".field .boxed", "data-box")).split(" ").map(Number);
  assert.deepEqual([bottom - top, right - left], [51, 51]); // what conv2 sees in 2012's network
});

pageTest("exported: occlusion, coarse to fine to its end", { site, tab: "inside" }, async (page) => {
  await lookInside(page);
  await page.waitForFunction(() => /\d\s%/.test(document.querySelector(".found").textContent), null, { timeout: 120_000 });
});

pageTest("exported: another image ends the occlusion of the one before", { site, tab: "inside" }, async (page) => {
  await lookInside(page);
  await lookInside(page, files()[1]);
  await page.waitForFunction(() => /\d\s%/.test(document.querySelector(".found").textContent), null, { timeout: 120_000 });
});

for (const colorScheme of ["light", "dark"]) {
  pageTest(`exported: accessible, ${colorScheme}`, { site, colorScheme }, async (page) => {
    await page.setInputFiles("#try input[type=file]", files()[0]);
    await page.waitForSelector(".result .bars");
    await assertAccessible(page);
    await page.click(".result button");
    await page.waitForSelector(".maps img");
    await assertAccessible(page);
  });
}

pageTest("exported: fits a phone, in Chinese", { site, lang: "zh-CN", ...PHONE }, async (page) => {
  await page.setInputFiles("#try input[type=file]", files()[0]);
  await page.waitForSelector(".result .bars");
  await assertFits(page);
  assert.match(await page.textContent("footer"), /\p{Script=Han}/u);
  await page.click(".result button");
  await page.waitForSelector(".maps img");
  await assertFits(page);
});

pageTest("exported: by keyboard alone to a unit", { site, tab: "inside" }, async (page) => {
  await lookInside(page);
  for (const list of [".net", ".maps"]) {
    await page.focus(`${list} [role=option][tabindex="0"]`);
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("Enter");
    await page.waitForSelector('.maps[aria-label="conv2"] img');
  }
  await page.waitForSelector(".field .boxed");
});
