// The network, run by ONNX Runtime's WebAssembly on one image at a time.

import * as ort from "./onnxruntime/ort.wasm.bundle.min.mjs";
import { fullMask } from "./patches.js";

const MOST_THREADS = 4;

/** Load the network; `progress(done, total)` is told of the bytes that are there. */
export async function loadNetwork(page, progress) {
  ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(MOST_THREADS, navigator.hardwareConcurrency) : 1;
  ort.env.logLevel = "error";
  const session = await ort.InferenceSession.create(await download("model.onnx", page.bytes, progress));
  const side = page.models[0].input[1];
  let last = Promise.resolve(); // runs follow each other

  /** Return outputs by name, {dims, data}, of a square: once for each mask of the crop (1 where it
   * is seen, 0 where it is covered), or once without any. */
  function run(square, names, masks = [fullMask(side)]) {
    const feeds = {
      images: new ort.Tensor("uint8", square, [1, ...page.square]),
      mask: new ort.Tensor("float32", joined(masks), [masks.length, 1, side, side]),
    };
    const outputs = last.then(() => session.run(feeds, names));
    last = outputs.catch(() => null);
    return outputs;
  }

  return { page, side, run };
}

function joined(masks) {
  const all = new Float32Array(masks.length * masks[0].length);
  masks.forEach((mask, at) => all.set(mask, at * mask.length));
  return all;
}

async function download(path, total, progress) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${answer.statusText}`);
  const bytes = new Uint8Array(total);
  const reader = answer.body.getReader();
  let done = 0;
  for (;;) {
    const part = await reader.read();
    if (part.done) return bytes;
    bytes.set(part.value, done);
    done += part.value.length;
    progress(done, total);
  }
}
