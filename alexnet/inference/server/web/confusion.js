// Which classes are taken for which: a matrix of few classes, a list of pairs of many.

import { el, fill } from "./dom.js";
import { addTexts, number, percent, t } from "./i18n.js";

export const MAX_FULL_MATRIX = 25; // classes: with more, the counts cannot be read

addTexts({
  en: {
    "true-class": "true class", "predicted-class": "predicted class", error: "error",
    "cell-label": "{true}, predicted as {predicted}: {images}",
    "matrix-hint": "Rows are true classes, columns predicted ones. Choose a number to see its images; arrow keys move.",
    "pairs-hint": "The most frequent confusions. Choose one to see its images.",
    "pairs-more": "There are rarer ones as well: find a class to see its own.",
    "find-class": "Find a class", "no-pairs": "No class of this name is confused with another.",
    "predicted-as": "predicted as",
  },
  zh: {
    "true-class": "真实类别", "predicted-class": "预测类别", error: "错误率",
    "cell-label": "{true}，预测为 {predicted}：{images}",
    "matrix-hint": "行是真实类别，列是预测类别。选择一个数字即可查看对应图像；可用方向键移动。",
    "pairs-hint": "最常见的混淆。选择一项即可查看对应图像。",
    "pairs-more": "还有较少见的混淆：查找类别即可查看。",
    "find-class": "查找类别", "no-pairs": "没有与此名称匹配的混淆。",
    "predicted-as": "预测为",
  },
});

/** Return the confusion of a split's scores; `open(true, predicted)` shows the images of a pair. */
export function confusion(scores, classes, open) {
  if (scores.matrix && classes.length <= MAX_FULL_MATRIX) return matrix(scores.matrix, classes, open);
  return pairs(scores.pairs, open);
}

function matrix(counts, classes, open) {
  const body = counts.map((row, at) => matrixRow(row, at, classes));
  const table = el("table", { class: "matrix", role: "grid", "aria-label": `${t("true-class")} × ${t("predicted-class")}` },
    el("thead", {}, el("tr", {},
      el("th", { class: "corner" }, el("span", {}, `${t("predicted-class")} →`)),
      classes.map((name) => el("th", { scope: "col" }, el("span", { title: name }, name))),
      el("th", { scope: "col", class: "share" }, el("span", {}, t("error"))))),
    el("tbody", {}, body));
  makeGrid(table, (cell) => {
    for (const other of table.querySelectorAll(".chosen")) other.classList.remove("chosen");
    cell.classList.add("chosen");
    open(classes[cell.dataset.true], classes[cell.dataset.predicted]);
  });
  return el("div", {},
    el("p", { class: "soft small" }, t("matrix-hint")),
    el("div", { class: "table" }, table));
}

function matrixRow(row, at, classes) {
  const total = row.reduce((sum, count) => sum + count, 0);
  const cells = row.map((count, column) => {
    const share = count / Math.max(1, total);
    const cell = el("td", {
      role: "gridcell", tabindex: "-1", class: column === at ? "hit" : "miss",
      "data-true": String(at), "data-predicted": String(column), "data-count": String(count),
      "aria-label": t("cell-label", { true: classes[at], predicted: classes[column], images: count }),
    }, count ? number(count) : "");
    cell.style.setProperty("--share", column === at ? share : share ** 0.6);
    return cell;
  });
  return el("tr", {},
    el("th", { scope: "row" }, el("span", { title: classes[at] }, classes[at])),
    cells,
    el("td", { class: "share soft" }, total ? percent(1 - row[at] / total, 0) : "–"));
}

/** Let arrows, Home and End move through a table's cells, and Enter, Space or a click choose one
 * that is not empty. One cell is reached by Tab. */
function makeGrid(table, choose) {
  const rows = [...table.tBodies[0].rows].map((row) => [...row.querySelectorAll("[role=gridcell]")]);
  let [down, along] = [0, 0];
  const reach = (row, column, focus) => {
    rows[down][along].tabIndex = -1;
    down = Math.min(Math.max(row, 0), rows.length - 1);
    along = Math.min(Math.max(column, 0), rows[down].length - 1);
    rows[down][along].tabIndex = 0;
    if (focus) rows[down][along].focus();
  };
  const chooseIfFilled = (cell) => {
    if (Number(cell.dataset.count)) choose(cell);
  };
  table.addEventListener("click", (event) => {
    const cell = event.target.closest("[role=gridcell]");
    if (!cell) return;
    reach(Number(cell.dataset.true), Number(cell.dataset.predicted), false);
    chooseIfFilled(cell);
  });
  table.addEventListener("keydown", (event) => {
    const end = rows.length - 1;
    const goals = {
      ArrowUp: [down - 1, along], ArrowDown: [down + 1, along],
      ArrowLeft: [down, along - 1], ArrowRight: [down, along + 1],
      Home: event.ctrlKey ? [0, 0] : [down, 0], End: event.ctrlKey ? [end, end] : [down, end],
    };
    if (event.key in goals) reach(...goals[event.key], true);
    else if (event.key === "Enter" || event.key === " ") chooseIfFilled(rows[down][along]);
    else return;
    event.preventDefault();
  });
  reach(0, 0, false);
}

const SHOWN = 40; // pairs without a word to look for

function pairs(all, open) {
  const list = el("ul", { class: "bars pairs" });
  const more = el("p", { class: "soft small" });
  const most = all[0]?.images ?? 1;
  const show = (word) => {
    const wanted = word.trim().toLowerCase();
    const found = all.filter((pair) => `${pair.true}\n${pair.predicted}`.toLowerCase().includes(wanted));
    const shown = wanted ? found : found.slice(0, SHOWN);
    const items = shown.map((pair) => el("li", {}, pairButton(pair, most, open)));
    more.textContent = shown.length < found.length ? t("pairs-more") : "";
    fill(list, items.length ? items : el("li", { class: "soft" }, t("no-pairs")));
  };
  show("");
  return el("div", {},
    el("p", { class: "soft small" }, t("pairs-hint")),
    el("label", { class: "find" }, el("span", { class: "soft" }, t("find-class")), " ",
      el("input", { type: "search", oninput: (event) => show(event.target.value) })),
    list, more);
}

function pairButton(pair, most, open) {
  const button = el("button", { type: "button", class: "pair", onclick: () => open(pair.true, pair.predicted) },
    el("span", { class: "name" }, pair.true, el("span", { class: "soft" }, ` ${t("predicted-as")} `), pair.predicted),
    el("span", { class: "value" }, number(pair.images)));
  button.style.setProperty("--share", pair.images / most);
  return button;
}
