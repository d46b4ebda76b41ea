// The likeliest classes of an image as bars.

import { el } from "./dom.js";
import { percent } from "./i18n.js";

/** Return a list of answers [{class, probability}], the first one marked. */
export function answerBars(top) {
  return el("ol", { class: "bars" }, top.map((answer, rank) =>
    bar(answer.class, percent(answer.probability), answer.probability, rank === 0)));
}

/** Return a list item with a name and a value, behind them a bar of a share of 0 to 1. */
export function bar(name, value, share, first = false) {
  const item = el("li", { class: first ? "first" : null },
    el("span", { class: "name", title: name }, name), el("span", { class: "value" }, value));
  requestAnimationFrame(() => item.style.setProperty("--share", Math.max(0, Math.min(1, share))));
  return item;
}
