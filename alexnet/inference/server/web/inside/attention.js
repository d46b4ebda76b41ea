// Where the network looked: gradient, Grad-CAM or occlusion over the gray crop.

import { answerBars } from "../answers.js";
import { requestLines } from "../api.js";
import { el, fill, listBox, svg } from "../dom.js";
import { loadImage } from "../files.js";
import { addTexts, percent, t } from "../i18n.js";
import { onlyLatest } from "./latest.js";

addTexts({
  en: {
    attention: "Where it looked", answer: "Answers for this crop: choose a class to see what speaks for it", strength: "Strength of the color", gradient: "Gradient", gradcam: "Grad-CAM", occlusion: "Occlusion",
    "why-gradient": "How much each pixel would change the score of the class, if it changed a little.",
    "why-gradcam": "Where the last maps hold what speaks for the class: coarse, but it tells classes apart.",
    "why-occlusion": "A square is covered, everywhere in turn. Blue: covering this place makes the class less probable; orange: more probable.",
    "found-occlusion": "Covering the most telling place takes {class} from {before} to {after}.", working: "Step {step} of {steps}",
    "alt-attention": "{method} of {class} over the crop",
  },
  zh: {
    attention: "它关注哪里", answer: "对此裁剪图的预测：选择一个类别，看哪里支持它", strength: "颜色强度", gradient: "梯度", gradcam: "Grad-CAM", occlusion: "遮挡",
    "why-gradient": "每个像素稍有变化时，该类别的得分会变化多少。",
    "why-gradcam": "最后的特征图中哪里支持该类别：粗略，但能区分类别。",
    "why-occlusion": "依次遮住每一处。蓝色：遮住后该类别的概率下降；橙色：概率上升。",
    "found-occlusion": "遮住最关键处，{class} 从 {before} 降到 {after}。", working: "第 {step} / {steps} 步",
    "alt-attention": "裁剪图上 {class} 的{method}",
  },
});

const METHODS = ["gradcam", "gradient", "occlusion"]; // where a model does not name its own
const BLUE = [46, 134, 205]; // what speaks for the class
const RUST = [226, 110, 60]; // what speaks against it
const FAINT = 0.01; // a drop of probability below which no color is full

export function showAttention(place, subject) {
  const { input, signal } = subject;
  const stage = makeStage(input);
  const why = el("p", { class: "soft" });
  const found = el("p", { class: "found", "aria-live": "polite" });
  const names = subject.model.methods ?? METHODS;
  const choice = { method: names[0], label: input.top[0].class };
  const run = onlyLatest(signal);

  function show() {
    for (const button of methods) button.setAttribute("aria-pressed", button.value === choice.method);
    why.textContent = t(`why-${choice.method}`);
    stage.canvas.setAttribute("aria-label", t("alt-attention", { method: t(choice.method), class: choice.label }));
    found.classList.remove("error");
    run((own) => draw(stage, subject, choice, found, own), (error) => {
      found.classList.add("error");
      found.textContent = error.message;
    });
  }

  const methods = names.map((method) => el("button", {
    type: "button", value: method,
    onclick: () => {
      choice.method = method;
      show();
    },
  }, t(method)));
  const classes = classList(input.top, (label) => {
    choice.label = label;
    show();
  });
  const strength = el("input", {
    type: "range", min: 0, max: 1, step: 0.05, value: 0.85,
    oninput: () => stage.canvas.style.setProperty("opacity", strength.value),
  });
  stage.canvas.style.setProperty("opacity", strength.value);
  fill(place, el("h2", {}, t("attention")), el("div", { class: "beside" }, stage.element, el("div", {},
    el("div", { class: "row", role: "group", "aria-label": t("attention"), hidden: names.length < 2 }, methods),
    why,
    el("label", { class: "row" }, t("strength"), strength),
    el("h3", {}, t("answer")), classes, found)));
  show();
}

/** Return the answers as a list to choose from. */
function classList(top, choose) {
  const list = answerBars(top);
  list.setAttribute("aria-label", t("answer"));
  [...list.children].forEach((item, rank) => {
    item.setAttribute("role", "option");
    item.setAttribute("tabindex", rank === 0 ? 0 : -1);
    item.setAttribute("aria-selected", rank === 0);
  });
  listBox(list, (item) => choose(item.querySelector(".name").textContent));
  return list;
}

/** Return the gray crop with a canvas over it, in the crop's pixels, and an outline of the patch. */
function makeStage(input) {
  const [top, left, bottom, right] = input.box;
  const [height, width] = [bottom - top, right - left];
  const canvas = el("canvas", { width, height, role: "img" });
  const patch = svg("rect", { class: "patch", visibility: "hidden" });
  const element = el("div", { class: "stage" },
    el("img", { src: input.crop, alt: "" }), canvas,
    svg("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" }, patch));
  return { element, canvas, patch };
}

async function draw(stage, subject, { method, label }, found, signal) {
  found.textContent = "…";
  if (method === "occlusion") return drawOcclusion(stage, subject, label, found, signal);
  const answer = await subject.ask(`v1/explain/${method}`, { label }, signal);
  const map = await loadImage(answer.map);
  if (signal.aborted) return;
  clear(stage.canvas).drawImage(colored(map), 0, 0, stage.canvas.width, stage.canvas.height);
  found.textContent = "";
}

async function drawOcclusion(stage, subject, label, found, signal) {
  clear(stage.canvas);
  const { model, image, input } = subject;
  const { probability } = input.top.find((answer) => answer.class === label);
  const done = new AbortController(); // ends the sweep
  let sweeping = null;
  try {
    const query = { model: model.name, label };
    for await (const line of requestLines("v1/explain/occlusion", { body: image, query, signal })) {
      sweeping ??= sweep(stage.patch, line, AbortSignal.any([signal, done.signal]));
      drawDrops(stage.canvas, line);
      found.textContent = line.step < line.steps ? t("working", line) : mostLost(label, probability, line.drop);
    }
  } finally {
    done.abort();
  }
}

function mostLost(label, probability, drop) {
  const after = probability - Math.max(0, ...drop.flat());
  return t("found-occlusion", { class: label, before: percent(probability), after: percent(after) });
}

/** Draw the lost probability at each place of the patch's middle. */
function drawDrops(canvas, { patch, corners, drop }) {
  const small = el("canvas", { width: corners.length, height: corners.length });
  const context = small.getContext("2d");
  const pixels = context.createImageData(corners.length, corners.length);
  const most = Math.max(FAINT, ...drop.flat().map(Math.abs));
  drop.flat().forEach((value, at) => setPixel(pixels.data, at, value / most));
  context.putImageData(pixels, 0, 0);
  const step = (corners.at(-1) - corners[0]) / Math.max(1, corners.length - 1);
  const start = corners[0] + patch / 2 - step / 2;
  clear(canvas).drawImage(small, start, start, step * corners.length, step * corners.length);
}

/** Move the outline of the patch over its places, until `signal`, to show what is being done. */
async function sweep(outline, { patch, corners }, signal) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  outline.setAttribute("width", patch);
  outline.setAttribute("height", patch);
  outline.setAttribute("visibility", "visible");
  for (let place = 0; !signal.aborted; place += 1) {
    outline.setAttribute("x", corners[place % corners.length]);
    outline.setAttribute("y", corners[Math.floor(place / corners.length) % corners.length]);
    await new Promise(requestAnimationFrame);
  }
  outline.setAttribute("visibility", "hidden");
}

function clear(canvas) {
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  return context;
}

/** Return a canvas with a gray map as color of that strength. */
function colored(map) {
  const canvas = el("canvas", { width: map.naturalWidth, height: map.naturalHeight });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(map, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  for (let at = 0; at < pixels.data.length / 4; at += 1) setPixel(pixels.data, at, pixels.data[4 * at] / 255);
  context.putImageData(pixels, 0, 0);
  return canvas;
}

/** Set a pixel's color for a strength of -1 (rust) to 1 (blue); 0 is transparent. */
function setPixel(data, at, strength) {
  const color = strength < 0 ? RUST : BLUE;
  color.forEach((value, channel) => {
    data[4 * at + channel] = value;
  });
  data[4 * at + 3] = 255 * Math.min(1, Math.abs(strength)) ** 0.65;
}
