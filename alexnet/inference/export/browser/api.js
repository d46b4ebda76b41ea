// In place of the service's api.js: requests are answered by the network in this browser.

import { announce } from "./dom.js";
import { addTexts, number, percent, t } from "./i18n.js";

addTexts({
  en: {
    loading: "Loading the network, {size} MB: {share}", "not-loaded": "The network cannot be loaded: {reason}",
    unreadable: "This browser cannot read the file as an image.",
    private: "Your images stay in this browser: the network runs here.",
  },
  zh: {
    loading: "正在加载网络（{size} MB）：{share}", "not-loaded": "无法加载网络：{reason}",
    unreadable: "此浏览器无法将该文件读作图像。",
    private: "图像不会离开此浏览器：网络就在这里运行。",
  },
});

const worker = new Worker("worker.js", { type: "module" });
const asked = new Map(); // a question's number -> {value(value), end(error)}
const images = new WeakMap(); // a file -> its number
const numbers = { question: 0, image: 0 };
const shares = new Set(); // tenths of the network that are announced

/** Request a path of the service; return its JSON. */
export async function request(path, { body, query, signal } = {}) {
  if (path === "v1/models") return (await fetch("index.json")).json();
  for await (const value of requestLines(path, { body, query, signal })) return value;
  return null;
}

/** Request a path whose answer is several values; yield each as it comes. */
export async function* requestLines(path, { body, query, signal } = {}) {
  signal?.throwIfAborted();
  const id = (numbers.question += 1);
  const values = [];
  const state = { ended: false, error: null, wake: () => null };
  const abort = () => asked.get(id)?.end(signal.reason);
  asked.set(id, {
    value(value) {
      values.push(value);
      state.wake();
    },
    end(error) {
      Object.assign(state, { ended: true, error });
      state.wake();
    },
  });
  signal?.addEventListener("abort", abort);
  worker.postMessage({ id, path, query: query ?? {}, image: numberOf(body), file: body });
  try {
    while (!state.ended || values.length) {
      if (values.length) yield values.shift();
      else await new Promise((resolve) => Object.assign(state, { wake: resolve }));
    }
    if (state.error) throw state.error;
  } finally {
    signal?.removeEventListener("abort", abort);
    if (asked.delete(id)) worker.postMessage({ cancel: id });
  }
}

/** Files of a dataset: a page has none. */
export async function requestFile(path) {
  throw new Error(`${path}: not in this page`);
}

/** Return the address of a file of the page. */
export function address(path) {
  return new URL(path, document.baseURI);
}

function numberOf(file) {
  if (!images.has(file)) images.set(file, (numbers.image += 1));
  return images.get(file);
}

function showProgress([done, total]) {
  const share = Math.floor((10 * done) / total) / 10;
  if (shares.has(share)) return;
  shares.add(share);
  announce(share < 1 ? t("loading", { size: number(total / 1e6), share: percent(share, 0) }) : "");
}

worker.onmessage = ({ data }) => {
  if (data.loaded) showProgress(data.loaded);
  else if (data.failed) announce(t("not-loaded", { reason: data.failed }));
  else if ("value" in data) asked.get(data.id)?.value(data.value);
  else asked.get(data.id)?.end(data.error ? new Error(t(data.error)) : null);
};
worker.onerror = () => announce(t("not-loaded", { reason: "worker.js" }));
