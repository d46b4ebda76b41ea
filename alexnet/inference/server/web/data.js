// "Data and mistakes": a model's dataset, what it gets wrong there, and labels that are likely
// wrong themselves. Scores and suspects are computed by the service in the background.

import { request } from "./api.js";
import { confusion } from "./confusion.js";
import { announce, el, fill, pause } from "./dom.js";
import { gallery } from "./gallery.js";
import { addTexts, number, percent, t } from "./i18n.js";

addTexts({
  en: {
    confusions: "Confusions", mistakes: "Worst mistakes", suspects: "Likely wrong labels", classes: "Classes", "left-out": "Left out",
    "data-summary": "{classes} classes, images of {size} × {size} pixels", split: "Scored on",
    "split-train": "{count} training images", "split-val": "{count} validation images", "split-test": "{count} test images",
    "top1-error": "top-1 error", "top5-error": "top-5 error", loss: "loss", "center-crop": "one center crop each",
    scoring: "Scoring the images: {done} of {total}", searching: "Comparing all images: {done} of {total}", "data-starting": "Waiting for the processor",
    "no-data": "No dataset is known for this model.",
    "cell-title": "{true} predicted as {predicted}", "right-title": "{true}, recognized correctly", probability: "probability", "count-images": "{count} images", "one-image": "1 image",
    "mistakes-hint": "Wrong answers the model was most certain of, with the probability it gave them.", "no-mistakes": "No mistakes on this split.",
    "suspects-hint": "Images that resemble another class more than the one in their label, among all splits. Each is judged by the other images only, so wrong labels that the model learned by heart are found too.",
    "no-suspects": "No label stands out.", "labelled-as": "labelled", "looks-like": "looks like", "predicted-with": "predicted",
    class: "Class", "class-images": "Images", errors: "Mistakes", share: "Error", "often-as": "Most often mistaken for",
    "left-out-hint": "Files of the source that are not in the dataset, and why.", name: "Name", reason: "Reason",
    "find": "Find a class",
  },
  zh: {
    confusions: "混淆", mistakes: "最严重的错误", suspects: "可能有误的标签", classes: "类别", "left-out": "未收录",
    "data-summary": "{classes} 个类别，图像 {size} × {size} 像素", split: "评估数据",
    "split-train": "{count} 张训练图像", "split-val": "{count} 张验证图像", "split-test": "{count} 张测试图像",
    "top1-error": "top-1 错误率", "top5-error": "top-5 错误率", loss: "损失", "center-crop": "每张取一个中心裁剪图",
    scoring: "正在评估图像：{done} / {total}", searching: "正在比较所有图像：{done} / {total}", "data-starting": "正在等待处理器",
    "no-data": "未知此模型的数据集。",
    "cell-title": "{true} 被预测为 {predicted}", "right-title": "{true}，识别正确", probability: "概率", "count-images": "{count} 张图像", "one-image": "1 张图像",
    "mistakes-hint": "模型最有把握却预测错误的图像，以及它给出的概率。", "no-mistakes": "这些图像全部预测正确。",
    "suspects-hint": "与其标签相比更像另一类别的图像，在训练、验证和测试图像中查找。每张图像只依据其他图像来判断，因此模型死记下来的错误标签也能找到。",
    "no-suspects": "没有可疑的标签。", "labelled-as": "标签", "looks-like": "更像", "predicted-with": "预测",
    class: "类别", "class-images": "图像数", errors: "错误数", share: "错误率", "often-as": "最常被误认为",
    "left-out-hint": "原始文件中未收录进数据集的文件及原因。", name: "名称", reason: "原因",
    "find": "查找类别",
  },
});

const POLL = 500; // milliseconds between questions while something is computed
const MISTAKES = 200;
const SUSPECTS = 200;
const SPLITS = ["val", "test", "train"]; // the first that has images is scored first
const VIEWS = ["confusions", "mistakes", "suspects", "classes", "left-out"];

/** Show the dataset of the chosen model in a section. */
export function mount(section, context) {
  let stop = new AbortController();
  const show = () => {
    stop.abort();
    stop = new AbortController();
    showDataset(section, context, stop.signal).catch((error) => complain(section, error));
  };
  context.events.addEventListener("model", show);
  show();
}

function complain(place, error) {
  if (error.name === "AbortError") return;
  fill(place, el("p", { class: "error" }, error.message));
}

async function showDataset(section, context, signal) {
  const { model } = context;
  const known = context.info.models.find((each) => each.name === model);
  if (known && known.dataset === false) {
    fill(section, el("p", { class: "soft" }, t("no-data")));
    return;
  }
  const dataset = await request("v1/dataset", { query: { model }, signal });
  const filled = Object.keys(dataset.splits).filter((name) => dataset.splits[name]);
  const state = {
    context, dataset, signal, model,
    split: SPLITS.find((name) => filled.includes(name)) ?? filled[0],
    view: "confusions",
    body: el("div", { class: "data-view" }),
    numbers: el("dl", { class: "numbers" }),
    heard: el("p", { class: "visually-hidden", "aria-live": "polite" }), // which images came; one sees them
  };
  const views = VIEWS.filter((name) => name !== "left-out" || dataset.left_out.length);
  fill(section,
    el("h2", {}, dataset.name),
    el("p", { class: "soft" }, summary(dataset)),
    el("p", { class: "row split" }, splitChoice(state, filled), el("span", { class: "soft" }, t("center-crop"))),
    state.numbers,
    el("div", { class: "row views", role: "group", "aria-label": t("data") },
      views.map((name) => el("button", {
        type: "button", "data-view": name, "aria-pressed": String(name === state.view), onclick: (event) => chooseView(state, event.currentTarget),
      }, viewName(name, dataset)))),
    state.body, state.heard);
  showSplit(state);
}

function summary(dataset) {
  const filled = Object.keys(dataset.splits).filter((name) => dataset.splits[name]);
  const parts = filled.map((name) => countOf(dataset, name));
  return [...parts, t("data-summary", { classes: number(dataset.classes.length), size: dataset.size })].join(" · ");
}

function viewName(name, dataset) {
  return name === "left-out" ? `${t(name)} (${number(dataset.left_out.length)})` : t(name);
}

function splitChoice(state, names) {
  if (names.length < 2) return el("span", {}, `${t("split")} ${countOf(state.dataset, names[0])}`);
  const choose = (event) => {
    state.split = event.target.value;
    showSplit(state);
  };
  return el("label", {}, el("span", { class: "soft" }, t("split")), " ",
    el("select", { onchange: choose }, names.map((name) =>
      el("option", { value: name, selected: name === state.split }, countOf(state.dataset, name)))));
}

function countOf(dataset, split) {
  return t(`split-${split}`, { count: number(dataset.splits[split]) });
}

function chooseView(state, button) {
  state.view = button.dataset.view;
  for (const other of button.parentElement.children) other.setAttribute("aria-pressed", String(other === button));
  showView(state);
}

// ---- scores

/** Wait for the scores of the chosen split, with the progress shown; then show the view. */
function showSplit(state) {
  const { split } = state;
  state.scores = whenReady(state, "v1/dataset/scores", { split }, "scoring", state.numbers);
  state.scores.then((scores) => {
    if (split === state.split) fill(state.numbers, numbers(scores));
  }, (error) => complain(state.numbers, error));
  showView(state);
}

function numbers(scores) {
  const pairs = [
    [t("top1-error"), percent(scores.top1_error / 100)],
    scores.top5_error === null ? null : [t("top5-error"), percent(scores.top5_error / 100)],
    [t("loss"), number(scores.loss, 2)],
  ];
  return pairs.filter(Boolean).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)));
}

/** Ask until the answer is there; show how far the work is in `place` until then. */
async function whenReady(state, path, query, doing, place) {
  const bar = el("progress", { "aria-label": t(doing) });
  const text = el("span", { class: "soft small" });
  for (let first = true; ; first = false) {
    const answer = await request(path, { query: { model: state.model, ...query }, signal: state.signal });
    if (!("done" in answer)) return answer;
    if (first) fill(place, el("div", { class: "progress" }, text, bar));
    const { done, total } = answer;
    if (total) Object.assign(bar, { max: total, value: done });
    text.textContent = total ? t(doing, { done: number(done), total: number(total) }) : t("data-starting");
    await pause(POLL, place);
  }
}

// ---- the views

async function showView(state) {
  const { view, split } = state;
  const place = el("div", {});
  fill(state.body, place);
  const show = {
    confusions: showConfusions, mistakes: showMistakes, suspects: showSuspects, classes: showClasses, "left-out": showLeftOut,
  }[view];
  try {
    await show(state, place);
  } catch (error) {
    if (view === state.view && split === state.split) complain(place, error);
  }
}

async function showConfusions(state, place) {
  const scores = await state.scores;
  const images = el("div", { class: "cell" });
  const open = (label, predicted) => showCell(state, images, label, predicted);
  fill(place, confusion(scores, state.dataset.classes, open), images);
}

async function showCell(state, place, label, predicted) {
  const query = { split: state.split, true: label, predicted };
  try {
    const { images } = await whenReady(state, "v1/dataset/cell", query, "scoring", place);
    const title = t(label === predicted ? "right-title" : "cell-title", { true: label, predicted });
    const count = countImages(images.length);
    state.heard.textContent = `${title}: ${count}`;
    fill(place,
      el("h3", {}, title, el("span", { class: "soft" }, ` · ${count}`)),
      gallery(images, (image) => [labelled("probability", percent(image.probability, 0))], lookInside(state)));
    place.scrollIntoView({ block: "nearest", behavior: "smooth" });
  } catch (error) {
    complain(place, error);
  }
}

function countImages(count) {
  return count === 1 ? t("one-image") : t("count-images", { count: number(count) });
}

async function showMistakes(state, place) {
  const query = { split: state.split, count: MISTAKES };
  const { images } = await whenReady(state, "v1/dataset/mistakes", query, "scoring", place);
  const caption = (image) => [
    labelled("labelled-as", image.true),
    labelled("predicted-with", `${image.predicted}, ${percent(image.probability, 0)}`, "error"),
  ];
  fill(place,
    el("p", { class: "soft small" }, images.length ? t("mistakes-hint") : t("no-mistakes")),
    gallery(images, caption, lookInside(state)));
}

async function showSuspects(state, place) {
  const { images } = await whenReady(state, "v1/dataset/suspects", { count: SUSPECTS }, "searching", place);
  const caption = (image) => [labelled("labelled-as", image.given), labelled("looks-like", image.suggested, "error")];
  fill(place,
    el("p", { class: "soft small" }, images.length ? t("suspects-hint") : t("no-suspects")),
    gallery(images, caption, lookInside(state)));
}

function labelled(key, text, kind = "") {
  return [el("span", { class: "soft" }, `${t(key)} `), el("span", { class: kind }, text)];
}

function lookInside({ context }) {
  return (file) => {
    context.setImage(file);
    context.open("inside");
  };
}

// ---- classes

const COLUMNS = [["class", "class"], ["images", "class-images"], ["errors", "errors"], ["share", "share"]]; // value, title

async function showClasses(state, place) {
  const scores = await state.scores;
  const taken = mostOftenTakenFor(scores);
  const images = el("div", { class: "cell" });
  const rows = scores.classes.map((each) => ({ ...each, share: each.errors / each.images, taken: taken.get(each.class) }));
  const open = (label, predicted) => showCell(state, images, label, predicted);
  const body = el("tbody");
  let word = "";
  let [key, down] = ["share", true];
  const heads = COLUMNS.map(([name, title]) => el("th", { scope: "col" },
    el("button", { type: "button", class: "sort", onclick: () => sort(name) }, t(title))));
  const show = () => {
    const found = rows.filter((row) => row.class.toLowerCase().includes(word));
    found.sort((a, b) => (down ? -1 : 1) * compare(a[key], b[key]));
    fill(body, found.map((row) => classRow(row, open)));
    heads.forEach((head, at) => {
      const sorted = COLUMNS[at][0] === key;
      head.setAttribute("aria-sort", sorted ? (down ? "descending" : "ascending") : "none");
    });
  };
  const sort = (name) => {
    down = name === key ? !down : name !== "class";
    key = name;
    show();
  };
  const find = (event) => {
    word = event.target.value.trim().toLowerCase();
    show();
  };
  show();
  fill(place,
    el("label", { class: "find" }, el("span", { class: "soft" }, t("find")), " ",
      el("input", { type: "search", oninput: find })),
    el("div", { class: "table" }, el("table", { class: "class-errors" },
      el("thead", {}, el("tr", {}, heads, el("th", { scope: "col" }, t("often-as")))), body)),
    images);
}

const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b);

function mostOftenTakenFor(scores) {
  const most = new Map();
  for (const pair of scores.pairs) if (!most.has(pair.true)) most.set(pair.true, pair); // most frequent first
  return most;
}

function classRow(row, open) {
  const bar = el("td", { class: "share-bar" }, percent(row.share, 0));
  bar.style.setProperty("--share", row.share);
  const { taken } = row;
  return el("tr", {},
    el("th", { scope: "row" }, row.class),
    el("td", {}, number(row.images)),
    el("td", {}, number(row.errors)),
    bar,
    el("td", {}, taken
      ? el("button", { type: "button", class: "link", onclick: () => open(row.class, taken.predicted) }, `${taken.predicted} (${number(taken.images)})`)
      : null));
}

// ---- what was left out

async function showLeftOut({ dataset }, place) {
  fill(place,
    el("p", { class: "soft small" }, t("left-out-hint")),
    el("div", { class: "table" }, el("table", {},
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, t("name")), el("th", { scope: "col" }, t("reason")))),
      el("tbody", {}, dataset.left_out.map(({ name, reason }) =>
        el("tr", {}, el("td", {}, name), el("td", { class: "soft" }, reason)))))));
}
