// Images of the dataset in a grid, each with a caption; one that is chosen is shown large, from
// where arrows lead to the others and a button to "Look inside".

import { address, requestFile } from "./api.js";
import { announce, el, fill } from "./dom.js";
import { addTexts, t } from "./i18n.js";

addTexts({
  en: {
    "look-inside": "Look inside", close: "Close", previous: "Previous image", next: "Next image",
    "image-of": "Image {at} of {count}", "from-train": "a training image", "from-val": "a validation image", "from-test": "a test image", "more-images": "Show {count} more",
  },
  zh: {
    "look-inside": "查看内部", close: "关闭", previous: "上一张", next: "下一张",
    "image-of": "第 {at} 张，共 {count} 张", "from-train": "训练图像", "from-val": "验证图像", "from-test": "测试图像", "more-images": "再显示 {count} 张",
  },
});

const PAGE = 60; // images shown at a time

/** Return a grid of images. `caption(image)` gives the lines below each, as nodes or texts; `open`
 * is called with the File that "Look inside" is to show. */
export function gallery(images, caption, open) {
  const list = el("ul", { class: "images data-images" });
  const more = el("button", { type: "button", onclick: () => showMore() });
  function showMore() {
    const from = list.children.length;
    const next = images.slice(from, from + PAGE);
    list.append(...next.map((image, at) => thumbnail(image, caption, () => show(from + at))));
    const left = images.length - list.children.length;
    more.hidden = left === 0;
    more.textContent = t("more-images", { count: Math.min(PAGE, left) });
    list.children[from]?.firstChild.focus({ preventScroll: true });
  }
  const show = (at) => lightbox(images, at, caption, open);
  showMore();
  return el("div", {}, list, more);
}

function thumbnail(image, caption, show) {
  const picture = el("img", { src: address(image.image), alt: image.name, loading: "lazy", decoding: "async" });
  return el("li", {},
    el("button", { type: "button", class: "thumbnail", onclick: show },
      picture,
      el("span", { class: "caption" }, caption(image).map((line) => el("span", {}, line)))));
}

/** Show one of several images large, in a dialog. */
function lightbox(images, at, caption, open) {
  const dialog = el("dialog", { class: "lightbox", "aria-labelledby": "lightbox-name" });
  const picture = el("img", {});
  const name = el("h3", { id: "lightbox-name" });
  const lines = el("p", {});
  const place = el("p", { class: "soft small", "aria-live": "polite" });
  const step = (by) => {
    at = (at + by + images.length) % images.length;
    show();
  };
  const show = () => {
    const image = images[at];
    picture.src = address(image.image);
    picture.alt = image.name;
    name.textContent = image.name;
    fill(lines, caption(image).map((line) => el("span", {}, line)));
    place.textContent = `${t("image-of", { at: at + 1, count: images.length })} · ${t(`from-${image.split}`)}`;
  };
  dialog.append(
    el("form", { method: "dialog" }, el("button", { "aria-label": t("close"), class: "close" }, "×")),
    el("figure", {}, picture, el("figcaption", {}, name, lines, place)),
    el("div", { class: "row" },
      el("button", { type: "button", "aria-label": t("previous"), onclick: () => step(-1) }, "‹"),
      el("button", { type: "button", "aria-label": t("next"), onclick: () => step(1) }, "›"),
      el("button", { type: "button", class: "primary", onclick: () => lookInside(images[at], dialog, open) }, t("look-inside"))));
  dialog.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) step(by);
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // beside the picture
  });
  dialog.addEventListener("close", () => dialog.remove());
  show();
  document.body.append(dialog);
  dialog.showModal();
}

async function lookInside(image, dialog, open) {
  try {
    const file = await requestFile(image.image, image.name.split("/").pop());
    dialog.close();
    open(file);
  } catch (error) {
    dialog.close();
    announce(error.message);
  }
}
