// A service to test: a small dataset and two small models, made once by the command itself.

import { execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const root = join(import.meta.dirname, "../..");
const cache = join(import.meta.dirname, ".cache");
const { PYTHON } = process.env;
const env = { ...process.env, PYTHONPATH: root, OMP_NUM_THREADS: "1" };
const PER_CLASS = 20;
const CPU = ["--device", "cpu", "--precision", "fp32"];

export const images = join(cache, "images"); // IMAGES/CLASS/00000.jpg
const dataset = join(cache, "dataset");
const models = join(cache, "models");
export const model = join(models, "first");

function python(...args) {
  return execFileSync(PYTHON, args, { env, stdio: ["ignore", "pipe", "inherit"], maxBuffer: 1 << 26 }).toString();
}

/** Run a command of alexnet; return what it prints. */
export function alexnet(...args) {
  return python("-m", "alexnet", ...args);
}

/** Make images, the dataset and the models where this file's are not made yet. */
export function prepare() {
  const complete = join(cache, createHash("sha256").update(readFileSync(import.meta.filename)).digest("hex"));
  if (existsSync(complete)) return;
  rmSync(cache, { recursive: true, force: true });
  python("-c", "import sys, pathlib, alexnet.data.synthetic as s; s.write_images(pathlib.Path(sys.argv[1]), int(sys.argv[2]))", images, PER_CLASS);
  alexnet("prepare", images, dataset, "--size", "80", "--val-fraction", "0.25");
  train("first", "modern", "--set", "network.input=3,67,67");
  train("second", "cifar-18pct");
  writeFileSync(complete, "");
}

function train(name, recipe, ...options) {
  const out = join(models, name);
  alexnet("train", dataset, "--recipe", recipe, "--epochs", "8", "--batch-size", "16", "--lr", "0.01", "--out", out, ...options, ...CPU);
  rmSync(join(out, "checkpoints"), { recursive: true }); // twice the model's size
}

/** Start a service over a copy of the models; return {url, folder, stop()}. */
export async function start() {
  const folder = mkdtempSync(join(tmpdir(), "alexnet-page-"));
  cpSync(models, folder, { recursive: true });
  const command = ["-m", "alexnet", "serve", folder, "--port", "0", "--allow-training", ...CPU];
  const child = spawn(PYTHON, command, { env, stdio: ["ignore", "pipe", "inherit"] });
  const url = await firstAddress(child);
  const stop = async () => {
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGTERM");
    await ended;
    rmSync(folder, { recursive: true, force: true });
  };
  return { url, folder, stop };
}

async function firstAddress(child) {
  for await (const line of createInterface({ input: child.stdout })) {
    const found = /http:\/\/\S+/.exec(line);
    if (found) return found[0];
  }
  throw new Error("alexnet serve: ended before it told its address");
}
