// All tests of the page, with one browser and one service.

import { after, before } from "node:test";

import { close, open } from "./browser.mjs";

before(open, { timeout: 300_000 });
after(close);

await import("./frame.mjs");
await import("./try.mjs");
await import("./inside.mjs");
if (!process.env.NO_RUNTIME) await import("./exported.mjs");
await import("./data.mjs");
await import("./train.mjs"); // it adds a model
