// The output of one layer: its maps, the strongest first, or its units as bars.

import { bar } from "../answers.js";
import { el, fill, listBox } from "../dom.js";
import { addTexts, number, t } from "../i18n.js";

addTexts({
  en: {
    "maps-title": "{layer}: {count} maps of {height} × {width}", "units-title": "{layer}: {count} units",
    strongest: "The {shown} strongest, by their largest value. Choose one to see what it responds to.",
    "all-maps": "Show all {count}", "alt-map": "Map of unit {unit}, at most {max}", unit: "unit {unit}",
  },
  zh: {
    "maps-title": "{layer}：{count} 张 {height} × {width} 的特征图", "units-title": "{layer}：{count} 个单元",
    strongest: "按最大值排列的前 {shown} 个。选择一个，看它对什么有响应。",
    "all-maps": "显示全部 {count} 个", "alt-map": "单元 {unit} 的特征图，最大值 {max}", unit: "单元 {unit}",
  },
});

const COUNT = 24;

/** Show a layer's strongest units; `choose(unit)` is told which one the visitor wants to know. */
export async function showLayer(place, subject, layer, choose, signal, count = COUNT) {
  const output = await subject.ask("v1/explain/maps", { layer: layer.name, count }, signal);
  const [channels, height, width] = output.shape;
  const title = output.maps
    ? t("maps-title", { layer: layer.name, count: number(channels), height, width })
    : t("units-title", { layer: layer.name, count: number(channels) });
  const shown = (output.maps ?? output.units).length;
  const all = () => showLayer(place, subject, layer, choose, signal, channels);
  fill(place, el("h3", {}, title), el("p", { class: "soft what" }, layer.text, ". ", t("strongest", { shown: number(shown) })),
    output.maps ? mapList(output, layer, choose) : unitList(output, subject.model, layer, choose),
    shown < channels ? el("button", { type: "button", onclick: all }, t("all-maps", { count: number(channels) })) : null);
}

function mapList({ maps }, layer, choose) {
  const list = el("div", { class: "maps", "aria-label": layer.name }, maps.map((map, at) =>
    option(map.unit, at, [
      el("img", { class: "pixelated", src: map.image, alt: t("alt-map", { unit: map.unit, max: number(map.max, 2) }) }),
      el("span", { class: "unit", "aria-hidden": "true" }, String(map.unit)),
      el("span", { class: "max", "aria-hidden": "true" }, number(map.max, 1)),
    ])));
  listBox(list, (one) => choose(Number(one.dataset.unit)));
  return list;
}

function unitList({ units }, model, layer, choose) {
  const isLast = model.layers.at(-1).name === layer.name;
  const most = Math.max(...units.map((unit) => Math.abs(unit.value)), 1e-9);
  const list = el("div", { class: "bars units", "aria-label": layer.name }, units.map(({ unit, value }, at) => {
    const item = bar(isLast ? model.classes[unit] : t("unit", { unit }), number(value, 2), value / most);
    return option(unit, at, [...item.childNodes], value / most);
  }));
  listBox(list, (one) => choose(Number(one.dataset.unit)));
  return list;
}

function option(unit, at, children, share = null) {
  const element = el("div", { role: "option", tabindex: at === 0 ? 0 : -1, "aria-selected": "false", "data-unit": unit }, children);
  if (share !== null) element.style.setProperty("--share", Math.max(0, share));
  return element;
}
