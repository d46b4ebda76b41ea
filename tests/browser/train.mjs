// The tab "Train": two folders become a dataset, a run, a model; its events come as they happen.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { pageTest } from "./browser.mjs";
import { images } from "./service.mjs";

const RUN = ".run:has(strong:text-is('cat-tree'))";
const LATE = 1000; // milliseconds after its line is written within which a step is shown

pageTest("two dropped folders become a model", { tab: "train" }, async (page, { folder, url }) => {
  await page.click("#train .runs-head .primary");
  await dropFolders(page, ".zone", [join(images, "cat"), join(images, "tree")]);
  await page.waitForFunction(() => document.querySelectorAll(".classes li").length === 2);
  await page.click(".choices summary");
  await page.waitForSelector('#new-recipe option[value="cifar-18pct"]', { state: "attached" });
  await page.selectOption("#new-recipe", "cifar-18pct");
  await page.check('[name=new-time][value="2"]');
  await page.click(".new-model [type=submit]");
  await page.waitForSelector(`${RUN}[data-state=running] progress`, { timeout: 90_000 });
  const metrics = join(folder, "cat-tree", "metrics.jsonl");
  const { steps } = await (await fetch(new URL("v1/runs/cat-tree", url))).json();
  await followSteps(page, metrics, steps);
  await page.reload();
  await page.waitForSelector(`${RUN}[data-state=running] progress`);
  await page.waitForFunction(shows, lastStep(metrics) / steps, { timeout: 5000 });
  await page.waitForSelector(`${RUN} button:has-text("Try it"):visible`, { timeout: 60_000 });
  await page.click(`${RUN} button:has-text("Stop")`);
  await page.waitForSelector(`${RUN}[data-state=stopped]`, { timeout: 60_000 });
  await page.click(`${RUN} button:has-text("Try it")`);
  await page.waitForSelector("#try:not([hidden])");
  assert.equal(await page.inputValue("#model"), "cat-tree");
  await page.setInputFiles("#try input[type=file]", join(images, "tree", "00003.jpg"));
  await page.waitForSelector(".result .bars");
  assert.equal(await page.locator(".result:first-child .bars li").count(), 2);
});

pageTest("a run without validation images has no chart of their error", { tab: "train" }, async (page) => {
  await page.waitForSelector("svg.curve-error");
  await page.route("**/v1/runs/first", async (route) => {
    const run = await (await route.fetch()).json();
    for (const epoch of run.history.epochs) epoch.val_top1_error = null;
    await route.fulfill({ json: run });
  });
  await page.reload();
  await page.uncheck(".run input:checked");
  await page.check(".run:has(strong:text-is('first')) input");
  await page.waitForSelector("text=There are no validation images");
  assert.ok(await page.isVisible("svg.curve-loss"));
  assert.ok(!(await page.isVisible("svg.curve-error")));
  assert.equal(await page.locator(".curve-values th[scope=col]").count(), 2);
});

/** Assert that steps are on the page soon after they are in the file. */
async function followSteps(page, metrics, steps) {
  for (let time = 0; time < 3; time += 1) {
    const before = lastStep(metrics);
    while (lastStep(metrics) === before) await sleep(20);
    await page.waitForFunction(shows, lastStep(metrics) / steps, { timeout: LATE, polling: 50 });
  }
}

/** Tell whether the page shows that a share of the new run is done. */
function shows(share) {
  const run = [...document.querySelectorAll(".run")].find((one) => one.querySelector("strong").textContent === "cat-tree");
  return run?.querySelector("progress").value >= share;
}

/** Return the last step in a run's metrics; -1 where there is none. */
function lastStep(metrics) {
  if (!existsSync(metrics)) return -1;
  const lines = readFileSync(metrics, "utf8").split("\n").slice(0, -1).map((line) => JSON.parse(line));
  return lines.findLast((record) => record.kind === "step")?.step ?? -1;
}

/** Drop folders on an element as a file manager does. */
async function dropFolders(page, selector, folders) {
  const { x, y, width, height } = await page.locator(selector).boundingBox();
  const session = await page.context().newCDPSession(page);
  const data = { items: [], files: folders, dragOperationsMask: 1 };
  for (const type of ["dragEnter", "dragOver", "drop"]) {
    await session.send("Input.dispatchDragEvent", { type, x: x + width / 2, y: y + height / 2, data });
  }
}
