// Pages in a real browser, and what no page may do: complain, or ask another host.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { test } from "node:test";
import { chromium } from "playwright-core";

import { prepare, start } from "./service.mjs";
import { startPage } from "./static_page.mjs";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const started = {}; // the browser, the service and the exported page, of all tests

export async function open() {
  prepare();
  started.service = await start();
  if (!process.env.NO_RUNTIME) started.exported = await startPage();
  started.browser = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"],
  });
}

export async function close() {
  await started.browser?.close();
  await started.service?.stop();
  await started.exported?.stop();
}

/** Test a page: `run(page, site)` begins at a tab; whatever the browser complains of fails it.
 *
 * `site`: the "service", or the "exported" page. `refused`: statuses, or names of network errors,
 * that the test provokes and the browser tells of. */
export function pageTest(name, { site = "service", tab = "try", lang = "en-US", refused = [], ...options }, run) {
  test(name, async () => {
    const context = await started.browser.newContext({ viewport: { width: 1200, height: 900 }, locale: lang, ...options });
    const page = await context.newPage();
    const complaints = listen(page, started[site].url, refused);
    try {
      await page.goto(`${started[site].url}#${tab}`);
      await page.waitForSelector(`#${tab}:not([hidden])`);
      await run(page, started[site]);
      assert.deepEqual(complaints, []);
    } finally {
      await context.close();
    }
  });
}

function listen(page, url, refused) {
  const complaints = [];
  page.on("console", (message) => {
    const isExpected = refused.some((what) => message.text().includes(what));
    if (["error", "warning"].includes(message.type()) && !isExpected) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("request", (request) => {
    const isOwn = /^(data|blob):/.test(request.url()) || request.url().startsWith(url);
    if (!isOwn) complaints.push(`request to ${request.url()}`);
  });
  return complaints;
}

/** Assert that axe finds nothing to complain of on a page. */
export async function assertAccessible(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.target.join(" ")).join(", ")}`);
  assert.deepEqual(found, []);
}

/** Assert that a page is not wider than the screen. */
export async function assertFits(page) {
  const { wide, screen } = await page.evaluate(() => ({
    wide: document.documentElement.scrollWidth, screen: document.documentElement.clientWidth,
  }));
  assert.ok(wide <= screen, `the page is ${wide} pixels wide on a screen of ${screen}`);
}
