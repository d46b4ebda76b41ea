// What the network saw: the image as a square, the crop of it, and the crop less the mean.

import { el, fill } from "../dom.js";
import { drawn, loadImage } from "../files.js";
import { addTexts, t } from "../i18n.js";
import { boxed } from "./boxed.js";

addTexts({
  en: {
    seen: "What the network saw",
    "seen-square": "The image, cut to a square of {side} pixels. The network gets the box.",
    "seen-crop": "The crop: {height} × {width} pixels.",
    "seen-mean": "The mean of the training images.",
    "seen-difference": "What goes in: the crop less the mean. Gray is 0.",
    "alt-square": "{name}, cut to a square", "alt-crop": "The crop of {name}", "alt-mean": "The mean of the training images", "alt-difference": "The crop less the mean",
  },
  zh: {
    seen: "网络看到了什么",
    "seen-square": "图像裁成边长 {side} 像素的正方形，网络得到方框内的部分。",
    "seen-crop": "裁剪图：{height} × {width} 像素。",
    "seen-mean": "训练图像的均值。",
    "seen-difference": "网络的输入：裁剪图减去均值。灰色为 0。",
    "alt-square": "{name}，裁成正方形", "alt-crop": "{name} 的裁剪图", "alt-mean": "训练图像的均值", "alt-difference": "减去均值后的裁剪图",
  },
});

export async function showInput(place, { image, input }) {
  const [top, left, bottom, right] = input.box;
  const [square, difference] = await Promise.all([squareFigure(image, input), differenceFigure(input)]);
  const crop = el("img", { src: input.crop, alt: t("alt-crop", { name: image.name }) });
  const mean = el("img", { src: input.mean, alt: t("alt-mean") });
  fill(place, el("h2", {}, t("seen")), el("div", { class: "sum" },
    term(square, t("seen-square", { side: input.record[0] })), sign("→"),
    term(crop, t("seen-crop", { height: bottom - top, width: right - left })), sign("−"),
    term(mean, t("seen-mean")), sign("="),
    term(difference, t("seen-difference"))));
}

function term(picture, caption) {
  return el("figure", {}, picture, el("figcaption", { class: "soft" }, caption));
}

function sign(text) {
  return el("span", { class: "sign", "aria-hidden": "true" }, text);
}

/** Return a canvas with the crop less the mean, 0 as middle gray. */
async function differenceFigure(input) {
  const [crop, mean] = await Promise.all([pixels(input.crop), pixels(input.mean)]);
  crop.data.forEach((value, at) => {
    if (at % 4 < 3) crop.data[at] = 128 + value - mean.data[at];
  });
  const canvas = el("canvas", { width: crop.width, height: crop.height, role: "img", "aria-label": t("alt-difference") });
  canvas.getContext("2d").putImageData(crop, 0, 0);
  return canvas;
}

async function pixels(src) {
  const image = await loadImage(src);
  const canvas = drawn(image, image.naturalWidth, image.naturalHeight);
  return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
}

/** Return the middle square of the visitor's image with the crop's box; the crop alone where the
 * browser cannot read the image. */
async function squareFigure(image, input) {
  const bitmap = await createImageBitmap(image).catch(() => null);
  const alt = t("alt-square", { name: image.name });
  if (!bitmap) return el("img", { src: input.crop, alt });
  const side = Math.min(bitmap.width, bitmap.height);
  const middle = await createImageBitmap(bitmap, (bitmap.width - side) / 2, (bitmap.height - side) / 2, side, side);
  const shown = Math.min(side, 512);
  const canvas = drawn(middle, shown, shown);
  bitmap.close();
  middle.close();
  return boxed(canvas.toDataURL("image/jpeg", 0.9), input.record, input.box, alt);
}
