// One unit: its map, what it sees of the image, its kernel, and the dataset's images that excite
// it most.

import { address, request } from "../api.js";
import { el, fill, pause } from "../dom.js";
import { addTexts, number, t } from "../i18n.js";
import { boxed } from "./boxed.js";

addTexts({
  en: {
    "unit-title": "{layer}, unit {unit}", "unit-class": "{layer}, {class}",
    "unit-map": "Its map; the largest value, {value}, is in row {row}, column {column} (counted from 0).",
    "unit-field": "There it sees {height} × {width} pixels of the crop: rows {top} to {bottom}, columns {left} to {right}.",
    "unit-padding": "What lies outside the crop is filled with 0.",
    "unit-kernel": "Its kernel: the pattern it looks for.", "alt-unit-map": "Map of unit {unit}", "alt-field": "The crop with the unit's receptive field", "alt-kernel": "Kernel of unit {unit}",
    excite: "Images of the dataset that excite it most", "excite-wait": "Looking at all images, only this once: {done} of {total}", "excite-alt": "{name}, {class}: {value}",
    "unit-value": "Its value: {value}.",
  },
  zh: {
    "unit-title": "{layer}，单元 {unit}", "unit-class": "{layer}，{class}",
    "unit-map": "它的特征图；最大值 {value} 位于第 {row} 行、第 {column} 列（从 0 数起）。",
    "unit-field": "它在该处看到裁剪图的 {height} × {width} 像素：第 {top} 至 {bottom} 行，第 {left} 至 {right} 列。",
    "unit-padding": "裁剪图以外的部分以 0 填充。",
    "unit-kernel": "它的卷积核：它寻找的图案。", "alt-unit-map": "单元 {unit} 的特征图", "alt-field": "裁剪图与该单元的感受野", "alt-kernel": "单元 {unit} 的卷积核",
    excite: "数据集中使它响应最强的图像", "excite-wait": "正在查看全部图像（仅此一次）：{done} / {total}", "excite-alt": "{name}，{class}：{value}",
    "unit-value": "输出值：{value}。",
  },
});

const WAIT = 600; // milliseconds between two looks at how far the dataset's images are

export async function showUnit(place, subject, layer, unit, signal) {
  const detail = await subject.ask("v1/explain/unit", { layer: layer.name, unit }, signal);
  const excite = el("div", { class: "excite" });
  fill(place, el("h3", { tabindex: -1 }, title(subject.model, layer, unit)),
    detail.map ? figures(detail, subject.input) : el("p", { class: "soft" }, t("unit-value", { value: number(detail.value, 2) })), excite);
  if (matchMedia("(max-width: 720px)").matches) place.scrollIntoView({ block: "start" });
  if (subject.model.dataset && layer.parameters > 0) await showExciting(excite, subject.model, layer, unit, signal);
}

function title(model, layer, unit) {
  const isLast = model.layers.at(-1).name === layer.name;
  if (isLast) return t("unit-class", { layer: layer.name, class: model.classes[unit] });
  return t("unit-title", { layer: layer.name, unit });
}

function figures({ unit, value, position, receptive_field: field, map, kernel }, input) {
  const [row, column] = position;
  const size = [input.box[2] - input.box[0], input.box[3] - input.box[1]];
  return el("div", { class: "figures" },
    el("figure", {}, el("img", { class: "pixelated", src: map, alt: t("alt-unit-map", { unit }) }),
      caption(t("unit-map", { value: number(value, 2), row, column }))),
    el("figure", { class: "field" }, boxed(input.crop, size, field.box, t("alt-field")),
      caption(fieldText(field, size))),
    kernel ? el("figure", {}, el("img", { class: "pixelated", src: kernel, alt: t("alt-kernel", { unit }) }), caption(t("unit-kernel"))) : null);
}

/** Say what a unit sees; the rows and columns are the first and the last ones. */
function fieldText({ box: [top, left, bottom, right], size: [height, width] }, [rows, columns]) {
  const text = t("unit-field", { height, width, top, bottom: bottom - 1, left, right: right - 1 });
  const isPadded = top < 0 || left < 0 || bottom > rows || right > columns;
  return isPadded ? `${text} ${t("unit-padding")}` : text;
}

function caption(text) {
  return el("figcaption", { class: "soft" }, text);
}

/** Ask for the strongest images of the dataset until they are there, and show them. */
async function showExciting(place, model, layer, unit, signal) {
  const bar = el("progress", { "aria-label": t("excite") });
  const wait = el("p", { class: "soft" });
  const heading = el("h3", {}, t("excite"));
  for (;;) {
    const answer = await request("v1/units", { query: { model: model.name, layer: layer.name, unit, count: 9 }, signal });
    if (answer.images) return fill(place, heading, el("ul", { class: "images" }, answer.images.map((image) => exciting(image, model))));
    Object.assign(bar, { max: answer.total || 1, value: answer.done });
    wait.textContent = t("excite-wait", { done: number(answer.done), total: number(answer.total) });
    if (!bar.isConnected) fill(place, heading, bar, wait);
    await pause(WAIT, place);
  }
}

function exciting(image, model) {
  const alt = t("excite-alt", { name: image.name, class: image.class, value: number(image.value, 2) });
  const side = [model.record, model.record];
  return el("li", {}, boxed(address(image.image).href, side, image.box, alt), el("span", { class: "small soft" }, image.class));
}
