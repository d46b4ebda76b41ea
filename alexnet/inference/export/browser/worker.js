// The worker: it holds the network and answers the page's questions, so that the page stays awake.
// A question is {id, path, query, image, file}; answers are {id, value}, {id, done} after the last
// value, or {id, error}. {cancel: id} ends a question.

import * as explain from "./explain.js";
import { loadNetwork } from "./network.js";

const ANSWERS = {
  "v1/predict": explain.predict,
  "v1/explain/input": explain.input,
  "v1/explain/maps": explain.maps,
  "v1/explain/unit": explain.unit,
};
const UNREADABLE = ["InvalidStateError", "EncodingError"]; // of createImageBitmap

const network = load();
const running = new Set(); // questions
const opened = { id: null, image: null }; // the image of the last question

async function load() {
  const page = await (await fetch("index.json")).json();
  return loadNetwork(page, (done, total) => postMessage({ loaded: [done, total] }));
}

async function answer({ id, path, query, image, file }) {
  running.add(id);
  try {
    const ready = await network;
    const picture = await open(ready, image, file);
    if (path === "v1/explain/occlusion") await answerLines(id, explain.occlusion(ready, picture, query));
    else postMessage({ id, value: await ANSWERS[path](ready, picture, query) });
    postMessage({ id, done: true });
  } catch (error) {
    postMessage({ id, error: UNREADABLE.includes(error.name) ? "unreadable" : error.message });
  }
  running.delete(id);
}

async function answerLines(id, lines) {
  for await (const value of lines) {
    if (!running.has(id)) return;
    postMessage({ id, value });
    await new Promise((resolve) => setTimeout(resolve)); // hear what else is asked
  }
}

/** Return the opened image of a file; the last one is kept, as it is asked about often. */
function open(ready, id, file) {
  if (opened.id !== id) Object.assign(opened, { id, image: explain.openImage(ready, file) });
  return opened.image;
}

onmessage = ({ data }) => {
  if ("cancel" in data) running.delete(data.cancel);
  else answer(data);
};
network.catch((error) => postMessage({ failed: error.message }));
