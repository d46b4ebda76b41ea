// Layer by layer: the drawing of the network, the maps of the chosen layer, the chosen unit.

import { el, fill, listBox } from "../dom.js";
import { addTexts, t } from "../i18n.js";
import { drawNetwork, groupBlocks, paintBlock } from "./drawing.js";
import { onlyLatest } from "./latest.js";
import { showLayer } from "./maps.js";
import { showUnit } from "./unit.js";

addTexts({
  en: {
    layers: "Layer by layer", "layers-lead": "Choose a layer to see what it makes of the image. The end of each block shows the layer's strongest map: blue is positive, orange negative. Not to scale: small maps are drawn larger.",
    "layers-of": "Outputs of {name}", "unit-region": "The chosen unit",
  },
  zh: {
    layers: "逐层查看", "layers-lead": "选择一层，看它如何处理图像。方块末端是该层最强的特征图：蓝色为正，橙色为负。未按比例：小的特征图画得较大。",
    "layers-of": "{name} 各步的输出", "unit-region": "所选单元",
  },
});

const SHOWN = new Set(["conv", "local", "linear", "norm", "pool"]); // kinds whose output can be asked for
const PAINTED = 12; // maps asked for, so that the strongest of both towers is among them

export function showLayers(place, subject) {
  const blocks = groupBlocks(subject.model);
  const drawing = drawNetwork(blocks, subject.input.crop);
  const steps = el("div", { class: "row steps-of", role: "group" });
  const maps = el("div", { class: "maps-place" });
  const unit = el("div", { class: "unit-place", role: "region", tabindex: 0, "aria-label": t("unit-region") });
  const run = onlyLatest(subject.signal);
  const runUnit = onlyLatest(subject.signal);

  function chooseBlock(name) {
    const block = blocks.find((one) => one.name === name);
    steps.setAttribute("aria-label", t("layers-of", { name }));
    const shown = block.layers.filter((layer) => SHOWN.has(layer.kind));
    steps.hidden = shown.length < 2;
    fill(steps, shown.map((layer) =>
      el("button", { type: "button", value: layer.name, onclick: () => chooseLayer(layer) }, layer.name)));
    chooseLayer(block.layers[0]);
  }

  function chooseLayer(layer) {
    for (const button of steps.children) button.setAttribute("aria-pressed", button.value === layer.name);
    fill(unit);
    run((signal) => showLayer(maps, subject, layer, (number) => chooseUnit(layer, number), signal), (error) => complain(maps, error));
  }

  function chooseUnit(layer, number) {
    runUnit((signal) => showUnit(unit, subject, layer, number, signal), (error) => complain(unit, error));
  }

  drawing.setAttribute("aria-label", t("layers"));
  listBox(drawing, (option) => chooseBlock(option.dataset.block));
  fill(place, el("h2", {}, t("layers")), el("p", { class: "soft" }, t("layers-lead")),
    el("div", { class: "net-scroll" }, drawing), steps, el("div", { class: "layer" }, maps, unit));
  const first = drawing.querySelector('[role="option"]');
  first.setAttribute("aria-selected", "true");
  first.setAttribute("tabindex", "0");
  chooseBlock(first.dataset.block);
  paintAll(drawing, blocks, subject).catch(() => null); // the drawing can do without
}

function complain(place, error) {
  fill(place, el("p", { class: "error" }, error.message));
}

/** Show on each block's ends the strongest map of each tower. */
async function paintAll(drawing, blocks, subject) {
  for (const block of blocks) {
    if (block.name === "input" || !(block.shape[1] > 1)) continue;
    const { maps } = await subject.ask("v1/explain/maps", { layer: block.name, count: PAINTED });
    const half = block.shape[0] / block.towers;
    const strongest = [0, 1].map((tower) => maps.find((map) => Math.floor(map.unit / half) === tower)?.image);
    paintBlock(drawing, block.name, strongest);
  }
}
