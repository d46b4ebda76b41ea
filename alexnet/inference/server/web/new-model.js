// A new model in three steps: folders of images (or a dataset that is there), how long, watch.

import { request } from "./api.js";
import { announce, el, fill } from "./dom.js";
import { chosenImages, classesOf, droppedImages } from "./folders.js";
import { addTexts, number, t } from "./i18n.js";

addTexts({
  en: {
    "new-title": "A new model from your images", "new-close": "Close",
    "new-step1": "1. Your images", "new-step2": "2. How long", "new-step3": "3. Watch",
    "new-drop": "Drop a folder for each class here: cats, dogs, …", "new-choose": "Choose a folder",
    "new-choose-more": "Add another folder", "new-private": "They are sent to this service only, and deleted once the dataset is made.",
    "new-images": "{count} images", "new-remove": "Remove {name}", "new-remove-short": "Remove", "new-reading": "Reading the folders …",
    "new-none": "No images in there. Expected folders with .jpg, .png or other image files.",
    "new-one-class": "One class only: add a folder of something else to tell it from.",
    "new-few": "{name} has only {count} images: a model learns much better from 50 or more of each class.",
    "new-uneven": "{name} has {times} times as many images as {other}: the model will prefer it.",
    "new-or": "or use an existing dataset:", "new-no-dataset": "none, new images", "new-dataset": "{name}: {count} images, {classes} classes",
    "new-name": "Name of the model", "new-name-rule": "Letters, digits, - and _, at most 48.", "new-name-used": "This name is in use.",
    "new-size": "Size of the images", "new-quick": "Quick: small images, 67 pixels. Right for a first try, and without a graphics card.",
    "new-full": "Full: 227 pixels, as in the paper. Sees details, and takes ten times as long.",
    "new-time": "Time", "new-minutes": "{count} minutes", "new-recipe": "Recipe", "new-more": "More choices",
    "new-start": "Train", "new-cancel": "Cancel", "new-sending": "Sending {done} of {total} images", "new-preparing": "Preparing {done} of {total} images",
    "new-measuring": "Measuring how fast this computer trains …", "new-started": "{name}: training for {epochs} epochs, as many as fit into the time.",
    "new-skipped": "{count} files were not accepted, the first: {reason}", "new-missing": "Add images first, or choose a dataset.", "new-cancelled": "Cancelled.",
    "new-watch": "Your images are sent and made into a dataset, then the training begins and its curves grow below.",
  },
  zh: {
    "new-title": "用自己的图像训练新模型", "new-close": "关闭",
    "new-step1": "1. 你的图像", "new-step2": "2. 训练多久", "new-step3": "3. 观察",
    "new-drop": "把每个类别的文件夹拖到这里：猫、狗……", "new-choose": "选择文件夹",
    "new-choose-more": "再加一个文件夹", "new-private": "图像只发送到此服务，数据集生成后即删除。",
    "new-images": "{count} 张图像", "new-remove": "移除 {name}", "new-remove-short": "移除", "new-reading": "正在读取文件夹……",
    "new-none": "其中没有图像。文件夹里应有 .jpg、.png 等图像文件。",
    "new-one-class": "只有一个类别：请再加一个不同内容的文件夹，才能区分。",
    "new-few": "{name} 只有 {count} 张图像：每类 50 张以上效果会好得多。",
    "new-uneven": "{name} 的图像是 {other} 的 {times} 倍：模型会偏向它。",
    "new-or": "或使用已有的数据集：", "new-no-dataset": "无，使用新图像", "new-dataset": "{name}：{count} 张图像，{classes} 个类别",
    "new-name": "模型名称", "new-name-rule": "字母、数字、- 和 _，最多 48 个。", "new-name-used": "此名称已被使用。",
    "new-size": "图像大小", "new-quick": "快速：67 像素的小图像。适合初次尝试，无需显卡。",
    "new-full": "完整：227 像素，与论文相同。能看清细节，用时约十倍。",
    "new-time": "时间", "new-minutes": "{count} 分钟", "new-recipe": "训练方案", "new-more": "更多选项",
    "new-start": "开始训练", "new-cancel": "取消", "new-sending": "正在发送图像 {done} / {total}", "new-preparing": "正在准备图像 {done} / {total}",
    "new-measuring": "正在测量本机的训练速度……", "new-started": "{name}：这段时间可训练 {epochs} 轮。",
    "new-skipped": "{count} 个文件未被接受，第一个：{reason}", "new-missing": "请先添加图像，或选择一个数据集。", "new-cancelled": "已取消。",
    "new-watch": "图像会先被发送并制成数据集，随后开始训练，曲线在下方逐步显示。",
  },
});

const SENT_AT_ONCE = 4;
const FEW = 10; // images of a class below which there is a warning
const UNEVEN = 8; // times as many images in one class as in another
const THUMBNAILS = 5;
const SHOWN_CLASSES = 24;
const MINUTES = [2, 5, 15];
const SIZES = { quick: 80, full: 256 };
const POLL = 400; // milliseconds

/** Return {element, open()}; `taken()` are the names in use, `started(name)` hears of a new run,
 * `closed()` that the element is hidden again. */
export function makeNewModel({ taken, started, closed }) {
  const state = { classes: new Map(), busy: null };
  const images = makeImages(state, changed);
  const choices = makeChoices(taken);
  const watch = makeWatch(() => state.busy?.abort());
  const start = el("button", { class: "primary", type: "submit" }, t("new-start"));
  const close = el("button", { class: "link", type: "button", onclick: hide }, t("new-close"));
  const form = el("form", { class: "steps", onsubmit: submit, novalidate: true },
    el("fieldset", {}, el("legend", {}, t("new-step1")), images.element),
    el("fieldset", {}, el("legend", {}, t("new-step2")), choices.element, el("p", {}, start)),
    el("fieldset", {}, el("legend", {}, t("new-step3")), watch.element));
  const title = el("h2", { tabindex: "-1", id: "new-model" }, t("new-title"));
  const element = el("div", { class: "new-model", role: "group", "aria-labelledby": "new-model", hidden: true },
    el("div", { class: "new-head" }, title, close), form);

  function changed() {
    choices.suggest([...state.classes.keys()], images.dataset);
  }

  async function submit(event) {
    event.preventDefault();
    if (state.busy) return;
    const problem = images.problem() ?? choices.problem();
    if (problem) return watch.fail(problem);
    state.busy = new AbortController();
    start.disabled = true;
    try {
      const run = await make(state, images.dataset, choices.values(), watch);
      reset();
      announce(t("new-started", { name: run.name, epochs: number(run.epochs) }));
      started(run.name);
    } catch (error) {
      watch.fail(error.name === "AbortError" ? t("new-cancelled") : error.message);
    } finally {
      state.busy = null;
      start.disabled = false;
    }
  }

  function hide() {
    element.hidden = true;
    closed();
  }

  function reset() {
    hide();
    state.classes.clear();
    images.show();
    choices.reset();
    watch.reset();
  }

  window.addEventListener("beforeunload", (event) => {
    if (state.busy) event.preventDefault();
  });
  return {
    element,
    open() {
      element.hidden = false;
      images.refresh();
      changed();
      title.focus();
    },
  };
}

// ---- step 1

function makeImages(state, changed) {
  const list = el("ul", { class: "classes" });
  const warnings = el("div", { role: "status" });
  const input = el("input", { type: "file", webkitdirectory: true, multiple: true, class: "visually-hidden", onchange: choose });
  const label = el("span", {}, t("new-choose"));
  const zone = el("div", { class: "zone" }, el("p", { class: "zone-text" }, t("new-drop")), el("label", { class: "button" }, label, input),
    el("p", { class: "soft small" }, t("new-private")));
  const select = el("select", { onchange: changed });
  const existing = el("p", { hidden: true }, el("label", {}, t("new-or"), " ", select));
  const element = el("div", {}, zone, list, warnings, existing);

  async function choose() {
    const found = chosenImages(input.files);
    input.value = "";
    add(found);
  }

  function add(found) {
    for (const [name, files] of classesOf(found)) {
      const known = new Map((state.classes.get(name) ?? []).map((item) => [item.name, item]));
      for (const item of files) known.set(item.name, item);
      state.classes.set(name, [...known.values()]);
    }
    select.value = "";
    show(found.length === 0 ? [t("new-none")] : []);
    changed();
  }

  function show(more = []) {
    label.textContent = t(state.classes.size ? "new-choose-more" : "new-choose");
    const names = [...state.classes.keys()];
    fill(list, names.slice(0, SHOWN_CLASSES).map((name) => classItem(name, state.classes.get(name), () => {
      state.classes.delete(name);
      show();
      changed();
    })), names.length > SHOWN_CLASSES ? el("li", {}, `… ${number(names.length)}`) : null);
    fill(warnings, [...more, ...warningsOf(state.classes)].map((text) => el("p", { class: "notice" }, text)));
  }

  acceptDrops(zone, async (transfer) => {
    announce(t("new-reading"));
    add(await droppedImages(transfer));
    announce("");
  });

  return {
    element,
    show,
    get dataset() {
      return state.classes.size ? null : select.value || null;
    },
    problem() {
      if (select.value && !state.classes.size) return null;
      if (state.classes.size === 0) return t("new-missing");
      return state.classes.size === 1 ? t("new-one-class") : null;
    },
    async refresh() {
      const { datasets } = await request("v1/datasets");
      const chosen = select.value;
      fill(select, el("option", { value: "" }, t("new-no-dataset")), datasets.map((dataset) =>
        el("option", { value: dataset.name }, t("new-dataset", {
          name: dataset.name, classes: number(dataset.classes.length),
          count: number(Object.values(dataset.splits).reduce((sum, count) => sum + count, 0)),
        }))));
      select.value = chosen;
      existing.hidden = datasets.length === 0;
    },
  };
}

function classItem(name, files, remove) {
  const pictures = el("span", { class: "thumbnails", "aria-hidden": "true" });
  for (const { file } of files.slice(0, THUMBNAILS)) drawThumbnail(file).then((canvas) => canvas && pictures.append(canvas));
  return el("li", {},
    el("span", { class: "class-name" }, el("strong", {}, name), el("span", { class: "soft" }, t("new-images", { count: number(files.length) }))),
    pictures, el("button", { class: "link", type: "button", onclick: remove, "aria-label": t("new-remove", { name }) }, t("new-remove-short")));
}

async function drawThumbnail(file) {
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (!bitmap) return null;
  const side = Math.min(bitmap.width, bitmap.height);
  const canvas = el("canvas", { width: 96, height: 96 });
  const from = [(bitmap.width - side) / 2, (bitmap.height - side) / 2, side, side];
  canvas.getContext("2d").drawImage(bitmap, ...from, 0, 0, 96, 96);
  bitmap.close();
  return canvas;
}

function warningsOf(classes) {
  if (classes.size === 0) return [];
  if (classes.size === 1) return [t("new-one-class")];
  const counts = [...classes].map(([name, files]) => [name, files.length]).sort((a, b) => a[1] - b[1]);
  const texts = counts.filter(([, count]) => count < FEW).slice(0, 3).map(([name, count]) => t("new-few", { name, count: number(count) }));
  const [[other, least], [name, most]] = [counts[0], counts.at(-1)];
  if (most >= UNEVEN * least) texts.push(t("new-uneven", { name, other, times: number(most / least) }));
  return texts;
}

function acceptDrops(zone, take) {
  const mark = (isOver) => zone.classList.toggle("over", isOver);
  zone.addEventListener("dragover", (event) => {
    event.preventDefault();
    mark(true);
  });
  zone.addEventListener("dragleave", (event) => {
    if (!zone.contains(event.relatedTarget)) mark(false);
  });
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    mark(false);
    take(event.dataTransfer);
  });
}

// ---- step 2

function makeChoices(taken) {
  const name = el("input", { id: "new-name", type: "text", maxLength: 48, pattern: "[A-Za-z0-9_\\-]+", autocomplete: "off", spellcheck: false, "aria-describedby": "new-name-rule" });
  name.addEventListener("input", () => { name.dataset.own = "yes"; });
  const size = radios("new-size", [["quick", t("new-quick")], ["full", t("new-full")]], "quick");
  const time = radios("new-time", MINUTES.map((count) => [String(count), t("new-minutes", { count })]), "5");
  const recipe = el("select", { id: "new-recipe" }, el("option", { value: "modern" }, "modern"));
  const sizes = el("div", { role: "radiogroup", "aria-labelledby": "new-size" }, el("p", { id: "new-size" }, t("new-size")), size);
  const element = el("div", { class: "choices" },
    el("div", { role: "radiogroup", "aria-labelledby": "new-time" }, el("p", { id: "new-time" }, t("new-time")), el("div", { class: "row" }, time)),
    sizes,
    el("div", {}, el("p", {}, el("label", { for: "new-name" }, t("new-name"))), name, el("p", { class: "soft small", id: "new-name-rule" }, t("new-name-rule"))),
    el("details", { ontoggle: loadRecipes }, el("summary", {}, t("new-more")), el("label", {}, t("new-recipe"), " ", recipe)));

  async function loadRecipes() {
    if (recipe.options.length > 1) return;
    const { recipes } = await request("v1/recipes");
    fill(recipe, recipes.map((one) => el("option", { value: one.name }, `${one.name}: ${one.input.join(" × ")}`)));
  }

  const checked = (group) => group.map((label) => label.querySelector("input")).find((input) => input.checked).value;
  return {
    element,
    suggest(classes, dataset) {
      sizes.hidden = dataset !== null;
      if (!name.dataset.own) name.value = free(suggestion(classes, dataset), taken());
    },
    reset() {
      delete name.dataset.own;
    },
    problem() {
      if (!name.value || !name.checkValidity()) return `${t("new-name")}: ${t("new-name-rule")}`;
      return taken().has(name.value) ? t("new-name-used") : null;
    },
    values() {
      return { name: name.value, size: SIZES[checked(size)], minutes: Number(checked(time)), recipe: recipe.value };
    },
  };
}

function radios(group, options, chosen) {
  return options.map(([value, text]) => el("label", { class: "radio" },
    el("input", { type: "radio", name: group, value, checked: value === chosen }), el("span", {}, text)));
}

function suggestion(classes, dataset) {
  const words = dataset ? [dataset.replace(/-images$/, "")] : classes.slice(0, 3);
  const text = words.join("-").toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "");
  return text.slice(0, 40) || "my-model";
}

function free(name, names) {
  let candidate = name;
  for (let count = 2; names.has(candidate); count += 1) candidate = `${name}-${count}`;
  return candidate;
}

// ---- step 3

function makeWatch(cancel) {
  const text = el("p", { class: "watch-text soft", role: "status" }, t("new-watch"));
  const progress = el("progress", { hidden: true, "aria-label": t("new-step3") });
  const button = el("button", { type: "button", hidden: true, onclick: cancel }, t("new-cancel"));
  const show = (message, isError, isBusy) => {
    text.textContent = message;
    text.className = isError ? "watch-text error" : "watch-text";
    progress.hidden = !isBusy;
    button.hidden = !isBusy;
  };
  return {
    element: el("div", {}, text, progress, button),
    step(message, done = null, total = null) {
      show(message, false, true);
      if (total) Object.assign(progress, { max: total, value: done });
      else progress.removeAttribute("value");
    },
    reset: () => show(t("new-watch"), false, false),
    fail: (message) => show(message, true, false),
  };
}

/** Make a dataset of the images where none is given, then start a run; return the service's word. */
async function make(state, dataset, { name, size, minutes, recipe }, watch) {
  const { signal } = state.busy;
  const made = dataset ?? await makeDataset(state.classes, `${name}-images`, size, watch, signal);
  watch.step(t("new-measuring"));
  return request("v1/runs", { body: { dataset: made, name, minutes, recipe }, signal });
}

async function makeDataset(classes, dataset, size, watch, signal) {
  const { upload } = await request("v1/uploads", { body: {}, signal });
  try {
    await sendAll(upload, classes, watch, signal);
    await request(`v1/uploads/${upload}/prepare`, { body: { dataset, size }, signal });
    for (;;) {
      const now = await request(`v1/uploads/${upload}`, { signal });
      if (now.state === "failed") throw new Error(now.error);
      if (now.state === "prepared") return dataset;
      watch.step(t("new-preparing", { done: number(now.done), total: number(now.total) }), now.done, now.total);
      await new Promise((resolve) => setTimeout(resolve, POLL));
    }
  } finally {
    request(`v1/uploads/${upload}`, { method: "DELETE" }).catch(() => null);
  }
}

async function sendAll(upload, classes, watch, signal) {
  const waiting = [...classes].flatMap(([label, files]) => files.map(({ name, file }) => ({ label, name, file })));
  const total = waiting.length;
  const refused = [];
  let done = 0;
  async function work() {
    for (let next = waiting.pop(); next; next = waiting.pop()) {
      const path = [upload, next.label, next.name].map(encodeURIComponent).join("/");
      await request(`v1/uploads/${path}`, { method: "PUT", body: next.file, signal }).catch((error) => {
        if (signal.aborted) throw error;
        refused.push(error.message);
      });
      done += 1;
      watch.step(t("new-sending", { done: number(done), total: number(total) }), done, total);
    }
  }
  await Promise.all(Array.from({ length: SENT_AT_ONCE }, work));
  if (refused.length === total) throw new Error(refused[0]);
  if (refused.length) announce(t("new-skipped", { count: number(refused.length), reason: refused[0] }));
}
