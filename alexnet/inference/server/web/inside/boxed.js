// An image with a box drawn on it.

import { el, svg } from "../dom.js";

/** Return an image with a box [top, left, bottom, right] in pixels of its height and width. */
export function boxed(src, [height, width], box, alt) {
  const [top, left, bottom, right] = box;
  const corner = { x: left, y: top, width: right - left, height: bottom - top };
  return el("div", { class: "boxed", "data-box": box.join(" ") },
    el("img", { src, alt, loading: "lazy" }),
    svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" },
      svg("rect", { class: "under", ...corner }), svg("rect", { class: "line", ...corner })));
}
