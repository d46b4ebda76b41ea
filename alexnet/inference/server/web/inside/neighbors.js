// The images of the dataset that the network finds nearest.

import { address } from "../api.js";
import { el, fill } from "../dom.js";
import { addTexts, number, t } from "../i18n.js";

addTexts({
  en: { neighbors: "Nearest images", "neighbors-lead": "Images of the dataset that the network finds most alike, with the distance between their features.", "neighbor-alt": "{name}, {class}" },
  zh: { neighbors: "最相近的图像", "neighbors-lead": "网络认为最相似的数据集图像，以及特征之间的距离。", "neighbor-alt": "{name}，{class}" },
});

export async function showNeighbors(place, subject) {
  if (!subject.model.neighbors) return;
  fill(place, el("h2", {}, t("neighbors")), el("p", { class: "soft" }, t("neighbors-lead")));
  try {
    const { neighbors } = await subject.ask("v1/neighbors", { top_k: 10 });
    place.append(el("ul", { class: "images" }, neighbors.map(neighborItem)));
  } catch (error) {
    if (error.name !== "AbortError") place.append(el("p", { class: "error" }, error.message));
  }
}

function neighborItem({ name, class: label, distance, image }) {
  return el("li", {}, el("img", { src: address(image).href, alt: t("neighbor-alt", { name, class: label }), loading: "lazy" }),
    el("span", { class: "small" }, label), el("span", { class: "small soft" }, ` ${number(distance, 2)}`));
}
