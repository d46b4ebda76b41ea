// An exported page on a plain file server: `python -m http.server` in its folder.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { alexnet, model } from "./service.mjs";

const { PYTHON } = process.env;

/** Export a page of the first model and serve it; return {url, stop()}. */
export async function startPage() {
  const folder = mkdtempSync(join(tmpdir(), "alexnet-exported-"));
  alexnet("export", model, folder, "--format", "page");
  const { url, stop } = await serveFolder(folder);
  return { url, stop: () => stop().then(() => rmSync(folder, { recursive: true })) };
}

/** Serve a folder; return {url, stop()}. */
export async function serveFolder(folder) {
  const command = ["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", folder];
  const child = spawn(PYTHON, command, { stdio: ["ignore", "pipe", "ignore"] });
  const url = await firstAddress(child);
  const stop = async () => {
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGTERM");
    await ended;
  };
  return { url, stop };
}

async function firstAddress(child) {
  for await (const line of createInterface({ input: child.stdout })) {
    const found = /http:\/\/[\d.:]+\//.exec(line);
    if (found) return found[0];
  }
  throw new Error("http.server ended before it told its address");
}

/** Return what a page's network answers to an image's bytes: {predictions: [{top}]}. */
export async function answerOf(page, bytes) {
  return page.evaluate(async (base64) => {
    const { request } = await import("./api.js");
    const content = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    return request("v1/predict", { body: new File([content], "image") });
  }, bytes.toString("base64"));
}
