// The frame: tabs by keyboard, both languages, light and dark, a phone's screen.

import assert from "node:assert/strict";

import { assertAccessible, assertFits, pageTest } from "./browser.mjs";

const READY = { try: ".result .bars", inside: ".maps img", data: "#data .matrix", train: ".run" }; // what is there when a tab has its data
const PHONE = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true };

for (const [tab, ready] of Object.entries(READY)) {
  for (const colorScheme of ["light", "dark"]) {
    pageTest(`${tab}: accessible, ${colorScheme}`, { tab, colorScheme }, async (page) => {
      await page.waitForSelector(ready, { timeout: 60_000 });
      await assertAccessible(page);
    });
  }
  pageTest(`${tab}: fits a phone, in Chinese`, { tab, lang: "zh-CN", ...PHONE }, async (page) => {
    await page.waitForSelector(ready, { timeout: 60_000 });
    await assertFits(page);
    await assertAccessible(page);
    assert.equal(await page.getAttribute("html", "lang"), "zh-Hans");
    assert.match(await page.textContent(`#tab-${tab}`), /\p{Script=Han}/u);
    const small = await page.$$eval("button, select, a, .button", (all) => all
      .map((one) => one.getBoundingClientRect()).filter(({ height }) => height > 0 && height < 40).length);
    assert.equal(small, 0, "a target is lower than 40 pixels");
  });
}

pageTest("arrows go along the tabs, Home and End to its ends", {}, async (page) => {
  await page.focus('[role="tab"][aria-selected="true"]');
  const selected = () => page.textContent('[role="tab"][aria-selected="true"]');
  const all = await page.$$eval('[role="tab"]', (tabs) => tabs.map((tab) => tab.textContent));
  await page.keyboard.press("ArrowRight");
  assert.equal(await selected(), all[1]);
  await page.keyboard.press("End");
  assert.equal(await selected(), all.at(-1));
  await page.keyboard.press("ArrowRight");
  assert.equal(await selected(), all[0]);
  assert.equal(await page.locator('[role="tab"][tabindex="0"]').count(), 1);
});

pageTest("the other language is a link", {}, async (page) => {
  await page.click("#language");
  await page.waitForSelector('html[lang="zh-Hans"]');
});

pageTest("all tabs together: at most 200 kB, no text told twice", {}, async (page) => {
  for (const [tab, ready] of Object.entries(READY)) {
    await page.click(`#tab-${tab}`);
    await page.waitForSelector(ready, { timeout: 60_000 });
  }
  const size = await page.evaluate(() => performance.getEntries()
    .filter(({ name }) => /(\.(js|css|svg)|\/)$/.test(new URL(name, location).pathname))
    .reduce((sum, { decodedBodySize = 0 }) => sum + decodedBodySize, 0));
  console.log(`all tabs: ${size} bytes`);
  assert.ok(size > 50_000 && size <= 200_000, `${size} bytes`);
});

pageTest("the first paint", {}, async (page) => {
  await page.reload();
  const paint = await page.waitForFunction(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime);
  console.log(`first contentful paint: ${Math.round(await paint.jsonValue())} ms`); // said, not judged: others use the machine
});

pageTest("a tab that is not shown asks nothing", { tab: "train" }, async (page) => {
  await page.waitForSelector(".run");
  await page.click("#tab-try");
  await page.waitForSelector(".result .bars");
  const asked = [];
  page.on("request", (request) => asked.push(request.url()));
  await page.waitForTimeout(3000); // longer than between two looks at the runs
  assert.deepEqual(asked, []);
  const again = page.waitForRequest(/v1\/runs$/);
  await page.click("#tab-train");
  await again;
});

pageTest("a service that does not answer is told of", { refused: ["ERR_CONNECTION_REFUSED"] }, async (page) => {
  await page.waitForSelector(".result .bars");
  await page.route("**/v1/predict*", (route) => route.abort("connectionrefused"));
  await page.click("text=Another one");
  await page.waitForSelector(".result .error:has-text('does not answer')");
});
