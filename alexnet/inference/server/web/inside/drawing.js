// A drawing of the network as in the paper's figure 2: a block for each layer with weights, as
// long as it has channels, its end as large as its maps; two rows where the net has two towers.
// The end of a block shows the layer's strongest map.

import { svg } from "../dom.js";
import { addTexts, t } from "../i18n.js";

addTexts({
  en: { "input-block": "input" },
  zh: { "input-block": "输入" },
});

// Lengths in units of the drawing. Sides go by their square root: 13 pixels beside 227 would be
// too small to see.
const SIDE = 9.6;
const CHANNEL = 0.2;
const UNIT = 2.1;
const BAR = 9;
const ACROSS = 0.62; // how far a side that leads away goes to the right
const UP = 0.3; // and up
const GAP = 48;
const COLUMN = 100; // the least width
const ROW = 150;
const LABEL = 46;

/** Group a model's layers: the input, then each layer with weights with those that follow it. */
export function groupBlocks(model) {
  const blocks = [{ name: "input", shape: model.input, layers: [], towers: 1, groups: 1 }];
  for (const layer of model.layers) {
    if (layer.parameters > 0) blocks.push({ name: layer.name, shape: layer.shape, layers: [layer], groups: groupsOf(layer) });
    else if (blocks.length > 1) blocks.at(-1).layers.push(layer);
  }
  const towers = Math.max(...blocks.map((block) => block.groups));
  const last = blocks.length - 1;
  blocks.forEach((block, at) => {
    block.towers = at > 0 && at < last && towers === 2 && block.shape[0] % 2 === 0 ? 2 : 1;
  });
  return blocks;
}

function groupsOf(layer) {
  return Number(/(\d+) groups/.exec(layer.text)?.[1] ?? 1);
}

/** Return the drawing: an svg whose options are the blocks; `data-block` is a block's name. */
export function drawNetwork(blocks, crop) {
  const placed = place(blocks);
  const rows = Math.max(...blocks.map((block) => block.towers));
  const height = Math.max(rows * ROW, 200);
  const width = placed.at(-1).left + placed.at(-1).width;
  const drawing = svg("svg", { class: "net", viewBox: `0 0 ${width} ${height + LABEL}` });
  const connections = svg("g", { class: "connections", "aria-hidden": "true" });
  drawing.append(connections);
  placed.forEach((column, at) => {
    column.middles = middles(column.block.towers, height);
    if (at > 0) connections.append(...connect(placed[at - 1], column));
    drawing.append(drawColumn(column, height, at === 0 ? crop : null));
  });
  return drawing;
}

/** Show images on the ends of a block's boxes, one for each tower. */
export function paintBlock(drawing, name, images) {
  const faces = drawing.querySelectorAll(`[data-block="${CSS.escape(name)}"] image`);
  faces.forEach((face, tower) => {
    if (images[tower]) face.setAttribute("href", images[tower]);
  });
}

function place(blocks) {
  let left = 0;
  return blocks.map((block) => {
    const size = sizeOf(block);
    const width = Math.max(COLUMN, size.length + size.across + GAP);
    const column = { block, size, left, width, x: left + (width - size.length - size.across) / 2 };
    left += width;
    return column;
  });
}

function sizeOf({ shape, towers }) {
  const [channels, rows = 1, columns = 1] = shape;
  if (rows === 1 && columns === 1) return { length: BAR, height: Math.max(8, UNIT * Math.sqrt(channels / towers)), across: 0, up: 0 };
  const depth = SIDE * Math.sqrt(columns);
  return { length: Math.max(3, (CHANNEL * channels) / towers), height: (SIDE * Math.sqrt(rows)), across: ACROSS * depth, up: UP * depth };
}

function middles(towers, height) {
  return towers === 2 ? [height * 0.25, height * 0.75] : [height / 2];
}

/** Draw lines from boxes to the boxes that read them: of the own tower, or of both. */
function connect(from, to) {
  const lines = [];
  const own = to.block.groups === 2;
  from.middles.forEach((y1, one) => to.middles.forEach((y2, other) => {
    if (own && from.middles.length === 2 && one !== other) return;
    const x1 = from.x + from.size.length + from.size.across / 2;
    lines.push(svg("line", { x1, y1, x2: to.x, y2 }));
  }));
  return lines;
}

function drawColumn({ block, size, left, width, x, middles: rows }, height, crop) {
  const { name } = block;
  const label = name === "input" ? t("input-block") : name;
  const shape = block.shape.filter((side, at) => at === 0 || side > 1).join(" × ");
  const option = name === "input" ? {} : { role: "option", "data-block": name, tabindex: -1, "aria-selected": "false" };
  const center = left + width / 2;
  return svg("g", option,
    svg("rect", { class: "hit", x: left + 4, y: 2, width: width - 8, height: height + LABEL - 4, rx: 6 }),
    rows.map((middle) => drawBox(x, middle, size, crop)),
    svg("text", { class: "label", x: center, y: height + 20 }, label),
    " ", // apart, where the option is read out
    svg("text", { class: "shape", x: center, y: height + 37 }, shape));
}

function drawBox(x, middle, { length, height, across, up }, image) {
  const top = middle - height / 2 + up / 2;
  const right = x + length;
  const bottom = top + height;
  if (!across) return svg("rect", { class: "front", x, y: top, width: length, height });
  const face = [`${right},${top}`, `${right + across},${top - up}`, `${right + across},${bottom - up}`, `${right},${bottom}`];
  return svg("g", {},
    svg("rect", { class: "front", x, y: top, width: length, height }),
    svg("polygon", { class: "top", points: [`${x},${top}`, `${x + across},${top - up}`, `${right + across},${top - up}`, `${right},${top}`].join(" ") }),
    svg("polygon", { class: "end", points: face.join(" ") }),
    svg("image", { href: image, width: 1, height: 1, preserveAspectRatio: "none", transform: `matrix(${across} ${-up} 0 ${height} ${right} ${top})` }),
    svg("polygon", { class: "edge", points: face.join(" ") }));
}
