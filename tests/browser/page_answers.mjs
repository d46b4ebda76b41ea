// Print what an exported page answers to images: node page_answers.mjs FOLDER < PATHS, a path a
// line; for each of them a line of JSON, {path, top}. CHROMIUM and PYTHON name the programs.

import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

import { answerOf, serveFolder } from "./static_page.mjs";

const paths = readFileSync(0, "utf8").split("\n").filter(Boolean);
const site = await serveFolder(process.argv[2]);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });
try {
  const page = await browser.newPage();
  await page.goto(site.url);
  for (const path of paths) {
    const { predictions: [{ top }] } = await answerOf(page, readFileSync(path));
    console.log(JSON.stringify({ path, top }));
  }
} finally {
  await browser.close();
  await site.stop();
}
