// The page: tabs, the model that is chosen, and what the tabs share. Each tab is a module of its
// own with a style sheet of the same name, loaded when it is first opened:
// export function mount(section, context).

import { request } from "./api.js";
import { announce, el, fill } from "./dom.js";
import { addTexts, language, t } from "./i18n.js";

addTexts({
  en: {
    skip: "To the content", model: "Model", api: "Programming interface", "other-language": "中文",
    try: "Try", inside: "Look inside", data: "Data and mistakes", train: "Train",
    "no-models": "There is no model to show. Start the service with one: alexnet serve MODEL",
  },
  zh: {
    skip: "跳到正文", model: "模型", api: "编程接口", "other-language": "English",
    try: "试一试", inside: "查看内部", data: "数据与错误", train: "训练",
    "no-models": "没有可显示的模型。请用一个模型启动服务：alexnet serve MODEL",
  },
});

const main = document.getElementById("main");
const tabs = document.getElementById("tabs");
const choice = document.getElementById("model");
const sections = new Map(); // the tab's name -> what its loading ends with
let shown = null; // the name of the tab that is open

// What the tabs share. `info` is the answer of /v1/models, `model` a name in it. `image`: the File
// that "Look inside" starts with. A tab listens to "model", "image" and "tab" (another one is shown) events of
// `events`.
const context = {
  info: null,
  model: null,
  image: null,
  events: new EventTarget(),
  open: openTab,
  setImage(file) {
    context.image = file;
    context.events.dispatchEvent(new Event("image"));
  },
  async refresh() {
    const before = context.model;
    context.info = await request("v1/models");
    showModels();
    if (before !== null && before !== context.model) context.events.dispatchEvent(new Event("model"));
  },
};

function tabNames() {
  const names = [];
  if (context.info.models.length) names.push("try", "inside");
  if (context.info.models.some((model) => model.dataset)) names.push("data");
  if (context.info.training) names.push("train");
  return names;
}

function showTabs() {
  const names = tabNames();
  if ([...tabs.children].map((tab) => tab.dataset.tab).join() !== names.join()) fill(tabs, names.map(makeTab));
  markTab();
}

function makeTab(name) {
  return el("button", {
    id: `tab-${name}`, role: "tab", type: "button", "data-tab": name,
    onclick: () => openTab(name),
  }, t(name));
}

function markTab() {
  for (const tab of tabs.children) {
    const { tab: name } = tab.dataset;
    tab.setAttribute("aria-selected", name === shown);
    tab.tabIndex = name === shown ? 0 : -1;
    if (document.getElementById(name)) tab.setAttribute("aria-controls", name);
  }
}

function showModels() {
  const { models } = context.info;
  const names = models.map((model) => model.name);
  if (!names.includes(context.model)) context.model = context.info.default ?? names[0] ?? null;
  fill(choice, names.map((name) => el("option", { value: name, selected: name === context.model }, name)));
  document.getElementById("model-choice").hidden = models.length < 2;
  showTabs();
}

/** Show a tab; its module and style sheet are loaded the first time. */
async function openTab(name) {
  shown = name;
  if (!sections.has(name)) sections.set(name, loadTab(name));
  markTab();
  document.title = `${t(name)} · alexnet`;
  history.replaceState(null, "", `${location.search}#${name}`);
  await sections.get(name);
  for (const section of main.children) section.hidden = section.id !== shown;
  context.events.dispatchEvent(new Event("tab"));
}

async function loadTab(name) {
  const section = el("section", { id: name, role: "tabpanel", tabindex: "-1", hidden: true, "aria-labelledby": `tab-${name}` });
  const [part] = await Promise.all([import(`./${name}.js`), loadStyle(`${name}.css`)]);
  main.append(section);
  section.hidden = false; // what it shows first may depend on its size
  part.mount(section, context);
}

function loadStyle(href) {
  if (document.querySelector(`link[href="${href}"]`)) return null;
  const link = el("link", { rel: "stylesheet", href });
  const loaded = new Promise((resolve) => ["load", "error"].forEach((event) => link.addEventListener(event, resolve)));
  document.head.append(link);
  return loaded;
}

function moveAlongTabs(event) {
  const all = [...tabs.children];
  const at = all.indexOf(document.activeElement);
  const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: all.length - 1 }[event.key];
  if (at < 0 || to === undefined) return;
  event.preventDefault();
  const tab = all[(to + all.length) % all.length];
  tab.focus();
  openTab(tab.dataset.tab);
}

function linkOtherLanguage() {
  const other = language === "zh" ? "en" : "zh";
  const link = document.getElementById("language");
  link.href = `?lang=${other}`;
  link.lang = other === "zh" ? "zh-Hans" : "en";
}

tabs.addEventListener("keydown", moveAlongTabs);
choice.addEventListener("change", () => {
  context.model = choice.value;
  context.events.dispatchEvent(new Event("model"));
});
window.addEventListener("hashchange", () => {
  const wanted = location.hash.slice(1);
  if (tabNames().includes(wanted)) openTab(wanted);
});
for (const element of document.querySelectorAll("[data-text]")) element.textContent = t(element.dataset.text);
linkOtherLanguage();
try {
  const wanted = location.hash.slice(1); // before a tab is shown
  await context.refresh();
  const names = tabNames();
  if (names.length) await openTab(names.includes(wanted) ? wanted : names[0]);
  else announce(t("no-models"));
} catch (error) {
  announce(error.message);
}
