// The tab "Try": the likeliest classes of the visitor's images, by one model or by two.

import { request } from "./api.js";
import { answerBars } from "./answers.js";
import { cameraButton } from "./camera.js";
import { announce, el, fill } from "./dom.js";
import { exampleImage } from "./example.js";
import { acceptImages, fileButton, showSmall } from "./files.js";
import { addTexts, number, percent, t } from "./i18n.js";

addTexts({
  en: {
    "try-title": "What is in the image?", "try-drop": "Drop images anywhere on this page, or paste one.",
    "choose-images": "Choose images", "compare-with": "Compare with", nobody: "no other model", "look-inside": "Look inside",
    "look-at": "Look inside {name}", another: "Another one", "clear-images": "Clear",
    "some-done": "{done} of {total} images answered", "all-done": "{total} images answered",
    "one-done": "{name}: {class}, {share}", unshown: "No preview",
  },
  zh: {
    "try-title": "图中是什么？", "try-drop": "把图像拖到页面任意处，或粘贴一张。",
    "choose-images": "选择图像", "compare-with": "对比模型", nobody: "无", "look-inside": "查看内部",
    "look-at": "查看内部：{name}", another: "换一张", "clear-images": "清空",
    "some-done": "已识别 {done} / {total}", "all-done": "已识别 {total} 张",
    "one-done": "{name}：{class}，{share}", unshown: "无法预览",
  },
});

const AT_ONCE = 2; // requests on their way
const SIDE = 720; // pixels of the shown copy's longer side

export function mount(section, context) {
  const results = el("ol", { class: "results" });
  const heard = el("p", { class: "visually-hidden", "aria-live": "polite" }); // one answer is seen
  const camera = el("div", { class: "camera" });
  const waiting = []; // images that no request has been sent for
  const state = { compare: null, running: 0, done: 0, total: 0, items: [] };

  function take(files) {
    if (state.items[0]?.example) clear();
    const items = files.map((file) => makeItem(file, context));
    results.append(...items.map((item) => item.card));
    state.items.push(...items);
    ask(items);
  }

  function clear() {
    waiting.length = 0;
    Object.assign(state, { items: [], done: 0, total: 0 });
    fill(results);
    announce("");
  }

  function ask(items) {
    waiting.push(...items);
    state.total += items.length;
    while (state.running < AT_ONCE && waiting.length) work();
  }

  async function work() {
    state.running += 1;
    while (waiting.length) {
      const item = waiting.shift();
      await answer(item, [context.model, state.compare].filter(Boolean));
      if (state.items.includes(item)) tell(item);
    }
    state.running -= 1;
  }

  function tell(item) {
    state.done += 1;
    const { done, total } = state;
    if (done < total) announce(t("some-done", { done: number(done), total: number(total) }));
    else if (total > 1) announce(t("all-done", { total: number(total) }));
    else heard.textContent = oneAnswer(item);
  }

  function askAgain() {
    Object.assign(state, { done: 0, total: 0 });
    waiting.length = 0;
    ask(state.items);
  }

  async function showExample() {
    const file = await exampleImage(context);
    if (!file || state.items.some((item) => !item.example)) return; // the visitor was faster
    clear();
    const item = makeItem(file, context);
    item.example = true;
    item.name.append(" ", el("button", { type: "button", class: "link", onclick: showExample }, t("another")));
    state.items = [item];
    results.append(item.card);
    ask([item]);
  }

  const comparison = compareChoice(context, (name) => {
    state.compare = name;
    askAgain();
  });
  fill(section,
    el("div", { class: "ask" },
      el("h2", {}, t("try-title")),
      el("p", { class: "soft" }, t("try-drop")),
      el("div", { class: "row" },
        fileButton(t("choose-images"), take, { multiple: true, primary: true }),
        cameraButton(camera, take, (file, place) => showMoving(file, place, context.model)),
        comparison,
        el("button", { type: "button", class: "clear", onclick: clear }, t("clear-images")))),
    camera, results, heard);
  acceptImages(section, take);
  context.events.addEventListener("model", askAgain);
  showExample();
}

function oneAnswer({ file, top }) {
  if (!top) return "";
  return t("one-done", { name: file.name, class: top.class, share: percent(top.probability) });
}

/** Return the choice of a second model; hidden where there is only one. */
function compareChoice(context, change) {
  const select = el("select", { onchange: () => change(select.value || null) });
  const label = el("label", {}, t("compare-with"), " ", select);
  const show = () => {
    const names = context.info.models.map((model) => model.name);
    label.hidden = names.length < 2;
    const { value } = select;
    fill(select, el("option", { value: "" }, t("nobody")),
      names.map((name) => el("option", { value: name, selected: name === value }, name)));
  };
  show();
  select.addEventListener("focus", show); // models come and go
  return label;
}

function makeItem(file, context) {
  const img = el("img", { alt: file.name });
  const name = el("figcaption", { class: "soft" }, file.name);
  const answers = el("div", { class: "answers" });
  const look = el("button", {
    type: "button", "aria-label": t("look-at", { name: file.name }),
    onclick: () => {
      context.setImage(file);
      context.open("inside");
    },
  }, t("look-inside"));
  const card = el("li", { class: "result" }, el("figure", {}, img, name), el("div", { class: "said" }, answers, look));
  return { file, img, name, answers, look, card, top: null, shown: false };
}

/** Show an item's image, then its answers by each of the models. */
async function answer(item, models) {
  if (!item.shown) {
    item.shown = true;
    if (!(await showSmall(item.img, item.file, SIDE))) item.img.replaceWith(el("p", { class: "soft unshown" }, t("unshown")));
  }
  const columns = [];
  for (const model of models) {
    const { column, top } = await answersOf(item.file, model, models.length > 1);
    columns.push(column);
    if (model === models[0]) item.top = top;
  }
  item.look.hidden = item.top === null;
  fill(item.answers, columns);
  item.answers.classList.toggle("two", models.length > 1);
}

async function answersOf(file, model, named) {
  const heading = named ? el("h3", {}, model) : null;
  try {
    const { predictions } = await request("v1/predict", { body: file, query: { model } });
    const [{ top, error }] = predictions;
    if (error) throw new Error(error);
    return { column: el("div", {}, heading, el("p", { class: "headline" }, top[0].class), answerBars(top)), top: top[0] };
  } catch (error) {
    return { column: el("div", {}, heading, el("p", { class: "error" }, error.message)), top: null };
  }
}

async function showMoving(file, place, model) {
  const { column } = await answersOf(file, model, false);
  fill(place, column);
}
