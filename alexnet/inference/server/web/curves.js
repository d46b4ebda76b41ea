// Curves of runs over epochs: training loss and validation error, drawn as SVG in the size of their
// place, with the values at one epoch beside them and all values as a table.

import { el, fill, svg } from "./dom.js";
import { addTexts, number, percent, t } from "./i18n.js";

addTexts({
  en: {
    "curve-loss": "Training loss", "curve-error": "Validation error", "curve-epoch": "Epoch", "curve-run": "Run",
    "curve-at": "Values at epoch {epoch}", "curve-by": "by epoch", "curve-last": "(epoch {epoch})", "curve-table": "All values as a table", "curve-wait": "The first values come in a moment.",
    "curve-novalues": "no value", "curve-no-validation": "There are no validation images: only the training loss is known.",
  },
  zh: {
    "curve-loss": "训练损失", "curve-error": "验证错误率", "curve-epoch": "轮次", "curve-run": "训练",
    "curve-at": "第 {epoch} 轮的数值", "curve-by": "（按轮次）", "curve-last": "（第 {epoch} 轮）", "curve-table": "以表格显示全部数值", "curve-wait": "第一批数值马上就到。",
    "curve-novalues": "无数值", "curve-no-validation": "没有验证图像，因此只有训练损失。",
  },
});

const HEIGHT = 240;
const EDGE = { top: 10, right: 12, bottom: 26, left: 46 };
const MAX_MARKED = 40; // epochs up to which each one has a mark

/** Return {element, draw(runs)}; a run is {name, line, epochs, steps, validations} with `line` the
 * number of its color and dashes (classes line-0, line-1, ... of the style sheet). */
export function makeCurves() {
  const panels = [
    makePanel("loss", t("curve-loss"), (value) => number(value, 2)),
    makePanel("error", t("curve-error"), (value) => percent(value / 100, 0)),
  ];
  const slider = el("input", { type: "range", min: 1, max: 1, step: 1, id: "curve-epoch", oninput: () => moveTo(Number(slider.value)) });
  const label = el("label", { for: "curve-epoch" }, t("curve-epoch"));
  const note = el("p", { class: "soft small" }, t("curve-no-validation"));
  const values = el("div", { class: "table curve-values" });
  const all = el("div", { class: "table" });
  const details = el("details", { ontoggle: () => draw(shown) }, el("summary", {}, t("curve-table")), all);
  const element = el("div", { class: "curves" },
    el("div", { class: "curve-panels" }, panels.map((panel) => panel.element)), note,
    el("div", { class: "curve-cursor" }, label, slider), values, details);
  let shown = [];
  let at = null; // the epoch that the visitor looks at; null: the last one

  function moveTo(epoch) {
    at = epoch >= Number(slider.max) ? null : epoch;
    draw(shown);
  }

  function draw(runs) {
    shown = runs;
    const last = Math.max(1, ...runs.map((run) => run.validations.at(-1)?.epoch ?? 0));
    const epoch = Math.min(at ?? last, last);
    slider.max = last;
    slider.value = epoch;
    slider.disabled = last < 2;
    const columns = columnsOf(runs);
    slider.setAttribute("aria-valuetext", describe(runs, epoch, columns));
    note.hidden = columns.length > 1;
    panels[1].element.hidden = !note.hidden;
    for (const panel of panels) panel.draw(runs, epoch, moveTo);
    fill(values, valuesTable(runs, epoch, columns));
    fill(all, details.open ? fullTable(runs, columns) : null);
  }

  new ResizeObserver(() => draw(shown)).observe(element);
  return { element, draw };
}

// ---- one panel

function makePanel(kind, title, format) {
  const drawing = svg("svg", { class: `curve-${kind}`, height: HEIGHT, "aria-hidden": "true" });
  const element = el("figure", {}, el("h3", {}, title, " ", el("span", { class: "soft" }, t("curve-by"))), drawing);

  function draw(runs, epoch, moveTo) {
    const width = element.clientWidth;
    if (!width) return;
    const lines = runs.map((run) => ({ run, ...linesOf(run, kind) }));
    const x = scale([0, Math.max(1, ...runs.map((run) => run.epochs ?? 1))], [EDGE.left, width - EDGE.right]);
    const [low, high] = range(lines, kind);
    const y = scale([low, high], [HEIGHT - EDGE.bottom, EDGE.top]);
    drawing.setAttribute("width", width);
    drawing.replaceChildren(
      ...axes(x, y, width, format),
      svg("line", { class: "cursor", x1: x(epoch), x2: x(epoch), y1: EDGE.top, y2: HEIGHT - EDGE.bottom }),
      ...lines.flatMap((line) => drawLine(line, x, y, epoch)),
    );
    drawing.onpointermove = (event) => {
      if (event.pointerType === "mouse" || event.buttons) moveTo(Math.max(1, Math.round(x.invert(event.offsetX))));
    };
    drawing.onpointerdown = drawing.onpointermove;
  }
  return { element, draw };
}

/** Return a run's line by epochs, and for losses the fine one by steps. */
function linesOf(run, kind) {
  if (kind === "error") return { fine: [], points: pointsOf(run.validations, "val_top1_error") };
  const fine = run.steps.map((record) => [record.epoch, record.loss]);
  return { fine, points: pointsOf(run.validations, "train_loss") };
}

function pointsOf(records, key) {
  return records.filter((record) => record[key] !== null && record[key] !== undefined).map((record) => [record.epoch, record[key]]);
}

function range(lines, kind) {
  const values = lines.flatMap(({ fine, points }) => [...fine, ...points].map((point) => point[1]));
  if (!values.length) return kind === "error" ? [0, 100] : [0, 1];
  return [0, Math.max(...values) * 1.05 || 1];
}

function drawLine({ run, fine, points }, x, y, epoch) {
  const path = (all) => all.map(([a, b], index) => `${index ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("");
  const marked = points.length <= MAX_MARKED ? points : points.filter((point) => point[0] === epoch);
  return [
    fine.length > 1 ? svg("path", { class: `line line-${run.line} fine`, d: path(fine) }) : null,
    points.length > 1 ? svg("path", { class: `line line-${run.line}`, d: path(points) }) : null,
    ...marked.map((point) => svg("circle", {
      class: `mark line-${run.line}`, cx: x(point[0]), cy: y(point[1]), r: point[0] === epoch ? 4.5 : 2,
    })),
  ].filter(Boolean);
}

function axes(x, y, width, format) {
  const below = HEIGHT - EDGE.bottom;
  return [
    ...ticks(y.domain, 5).flatMap((value) => [
      svg("line", { class: "grid", x1: EDGE.left, x2: width - EDGE.right, y1: y(value), y2: y(value) }),
      svg("text", { x: EDGE.left - 6, y: y(value) + 4, "text-anchor": "end" }, format(value)),
    ]),
    ...ticks(x.domain, Math.max(2, width / 90)).filter(Number.isInteger).map((value) =>
      svg("text", { x: x(value), y: below + 18, "text-anchor": "middle" }, number(value))),
    svg("line", { class: "axis", x1: EDGE.left, x2: width - EDGE.right, y1: below, y2: below }),
  ];
}

function scale([low, high], [start, end]) {
  const map = (value) => start + ((value - low) / (high - low)) * (end - start);
  map.invert = (pixel) => low + ((pixel - start) / (end - start)) * (high - low);
  map.domain = [low, high];
  return map;
}

/** Return about `count` round numbers within a range. */
function ticks([low, high], count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, index) => (first + index) * step);
}

// ---- values

const showLoss = (record) => (record ? number(record.train_loss, 3) : "–");
const showError = (record) => (isValidated(record) ? percent(record.val_top1_error / 100) : "–");

function isValidated(record) {
  return record !== undefined && record.val_top1_error !== null && record.val_top1_error !== undefined;
}

/** Return the columns [title, show] of a table of runs: without the error where none has one. */
function columnsOf(runs) {
  const records = runs.flatMap((run) => run.validations);
  const columns = [[t("curve-loss"), showLoss]];
  if (!records.length || records.some(isValidated)) columns.push([t("curve-error"), showError]);
  return columns;
}

function recordAt(run, epoch) {
  return run.validations.findLast((record) => record.epoch <= epoch);
}

/** Return a piece of a run's line, to put before its name. */
export function lineKey(line) {
  const sample = svg("line", { class: `line line-${line}`, x1: 0, x2: 26, y1: 6, y2: 6 });
  return svg("svg", { class: "key", width: 26, height: 12, "aria-hidden": "true" }, sample);
}

function valuesTable(runs, epoch, columns) {
  if (!runs.some((run) => run.validations.length)) return el("p", { class: "soft" }, t("curve-wait"));
  const rows = runs.map((run) => valuesRow(run, recordAt(run, epoch), epoch, columns));
  const heads = [t("curve-run"), ...columns.map(([title]) => title)].map((text) => el("th", { scope: "col" }, text));
  return el("table", {}, el("caption", {}, t("curve-at", { epoch: number(epoch) })), el("thead", {}, el("tr", {}, heads)), el("tbody", {}, rows));
}

function valuesRow(run, record, epoch, columns) {
  const earlier = record && record.epoch < epoch ? el("span", { class: "soft" }, ` ${t("curve-last", { epoch: number(record.epoch) })}`) : null;
  return el("tr", {}, el("th", { scope: "row" }, lineKey(run.line), " ", run.name, earlier),
    columns.map(([, show]) => el("td", {}, show(record))));
}

function fullTable(runs, columns) {
  const last = Math.max(0, ...runs.map((run) => run.validations.at(-1)?.epoch ?? 0));
  const exact = (run, epoch) => run.validations.find((record) => record.epoch === epoch);
  const heads = runs.flatMap((run) => columns.map(([title]) => `${run.name}: ${title}`));
  const rows = Array.from({ length: last }, (_, index) => el("tr", {},
    el("th", { scope: "row" }, number(index + 1)),
    runs.flatMap((run) => columns.map(([, show]) => el("td", {}, show(exact(run, index + 1)))))));
  return el("table", {}, el("thead", {}, el("tr", {}, [t("curve-epoch"), ...heads].map((text) => el("th", { scope: "col" }, text)))), el("tbody", {}, rows));
}

function describe(runs, epoch, columns) {
  const parts = runs.map((run) => {
    const record = recordAt(run, epoch);
    if (!record) return `${run.name}: ${t("curve-novalues")}`;
    return `${run.name}: ${columns.map(([title, show]) => `${title} ${show(record)}`).join(", ")}`;
  });
  return `${t("curve-epoch")} ${epoch}. ${parts.join(". ")}`;
}
