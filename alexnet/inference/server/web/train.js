// The tab "Train": the runs below the served folder, their curves as they grow, and new models.

import { address, request } from "./api.js";
import { makeCurves, lineKey } from "./curves.js";
import { announce, el, fill } from "./dom.js";
import { addTexts, duration, number, percent, t } from "./i18n.js";
import { makeNewModel } from "./new-model.js";

addTexts({
  en: {
    "runs-title": "Training runs", "runs-new": "New model", "runs-none": "No runs yet.", "runs-none-how": "Start one from your images, or from a terminal: alexnet train DATASET --out RUN",
    "runs-not-allowed": "This server only shows runs. Start it with --allow-training to stop, resume and start them here.",
    running: "running", stopped: "stopped", finished: "finished", failed: "failed", starting: "starting …",
    "runs-stopping": "saving its state …",
    "runs-epoch": "epoch {epoch} of {epochs}", "runs-left": "{time} left", "runs-took": "{time} of training", "runs-speed": "{speed} images/s",
    "runs-best": "lowest error {error} (epoch {epoch})", "runs-loss": "loss {loss}", "runs-draw": "Draw the curves of {name}",
    "runs-stop": "Stop", "runs-resume": "Resume", "runs-try": "Try it",
    "runs-ended": "{name}: {state}", "runs-many": "At most {count} runs are drawn together.", "runs-curves": "Curves",
    "runs-elsewhere": "started in a terminal: stop it there",
  },
  zh: {
    "runs-title": "训练记录", "runs-new": "新模型", "runs-none": "还没有训练。", "runs-none-how": "可以用自己的图像开始，或在终端运行：alexnet train DATASET --out RUN",
    "runs-not-allowed": "此服务只显示训练。用 --allow-training 启动后，可在此停止、继续和开始训练。",
    running: "训练中", stopped: "已停止", finished: "已完成", failed: "失败", starting: "正在启动……",
    "runs-stopping": "正在保存状态……",
    "runs-epoch": "第 {epoch} / {epochs} 轮", "runs-left": "还需 {time}", "runs-took": "训练用时 {time}", "runs-speed": "每秒 {speed} 张图像",
    "runs-best": "最低错误率 {error}（第 {epoch} 轮）", "runs-loss": "损失 {loss}", "runs-draw": "绘制 {name} 的曲线",
    "runs-stop": "停止", "runs-resume": "继续", "runs-try": "试一试",
    "runs-ended": "{name}：{state}", "runs-many": "最多同时绘制 {count} 个训练。", "runs-curves": "曲线",
    "runs-elsewhere": "在终端中启动：请在那里停止",
  },
});

const POLL = 2500; // milliseconds between two looks at the list
const MAX_DRAWN = 6;
const MAX_STEPS = 2000; // records of losses kept of a run

export function mount(section, context) {
  const { allowed } = context.info.training;
  const rows = new Map(); // name -> the run's row
  const drawn = new Map(); // name -> the run's curves, in the order of their lines
  const curves = makeCurves();
  const list = el("ul", { class: "runs" });
  const empty = el("div", { class: "soft", hidden: true }, el("p", {}, t("runs-none")), el("p", {}, t("runs-none-how")));
  const chart = el("div", { hidden: true }, el("h2", { class: "visually-hidden" }, t("runs-curves")), curves.element);
  const create = makeNewModel({ taken: () => new Set([...rows.keys(), ...[...rows.keys()].map((name) => `${name}-images`)]), started: follow, closed: showButton });
  const button = el("button", { class: "primary", type: "button", hidden: !allowed, onclick: openNew }, t("runs-new"));
  fill(section, el("div", { class: "runs-head" }, el("h2", {}, t("runs-title")), button),
    allowed ? null : el("p", { class: "soft" }, t("runs-not-allowed")), create.element, empty, list, chart);
  let chosen = false; // whether the visitor has chosen which curves are drawn
  let pending = false;
  let complaint = null; // what was said of a service that does not answer

  function openNew() {
    button.hidden = true;
    create.open();
  }

  function showButton() {
    button.hidden = false;
    button.focus();
  }

  function redraw() {
    if (pending) return;
    pending = true;
    requestAnimationFrame(() => {
      pending = false;
      chart.hidden = drawn.size === 0;
      curves.draw([...drawn.values()].map(({ data }) => data));
    });
  }

  async function poll() {
    if (section.hidden || document.hidden) return pauseEvents();
    const { runs } = await request("v1/runs");
    found();
    empty.hidden = runs.length > 0;
    for (const status of runs) update(status);
    arrange(runs.map((run) => run.name));
    const first = runs.find((run) => run.state === "running") ?? runs[0];
    if (first && !chosen && (drawn.size === 0 || (first.state === "running" && !drawn.has(first.name)))) only(first.name);
    reconnect(runs);
  }

  function update(status) {
    if (!rows.has(status.name)) rows.set(status.name, makeRow(status.name, actions));
    const row = rows.get(status.name);
    const before = row.status?.state;
    row.isNew ||= before === "running";
    row.update(status);
    if (before === "running" && status.state !== "running") ended(status);
  }

  function arrange(names) {
    for (const name of rows.keys()) if (!names.includes(name)) rows.delete(name);
    const elements = names.map((name) => rows.get(name).element);
    if (elements.some((element, index) => list.children[index] !== element) || list.children.length > elements.length) fill(list, elements);
  }

  async function ended(status) {
    announce(t("runs-ended", { name: status.name, state: t(status.state) }));
    await context.refresh();
  }

  const actions = {
    async draw(name, isOn) {
      chosen = true;
      if (!isOn) return hide(name);
      if (drawn.size < MAX_DRAWN) return show(name);
      rows.get(name).check(false);
      announce(t("runs-many", { count: MAX_DRAWN }));
    },
    async ask(name, what) {
      try {
        await request(`v1/runs/${encodeURIComponent(name)}/${what}`, { body: {} });
        await poll();
      } catch (error) {
        announce(error.message);
      }
    },
    async attempt(name) {
      context.model = name;
      await context.refresh();
      context.events.dispatchEvent(new Event("model"));
      context.open("try");
    },
  };

  function only(name) {
    for (const other of [...drawn.keys()]) hide(other);
    show(name);
  }

  function hide(name) {
    drawn.get(name)?.close();
    drawn.delete(name);
    rows.get(name)?.mark(null);
    redraw();
  }

  async function show(name) {
    const used = [...drawn.values()].map(({ data }) => data.line);
    const line = [0, 1, 2, 3, 4, 5].find((number) => !used.includes(number));
    const curve = makeCurve(name, line, redraw, (record) => rows.get(name)?.advance(record), () => poll().catch(lost));
    drawn.set(name, curve);
    rows.get(name)?.mark(line);
    await curve.load();
  }

  /** Events wait while nobody looks: a browser holds few connections to one service. */
  function pauseEvents() {
    for (const curve of drawn.values()) curve.pause();
  }

  /** Follow runs that run (again) and are drawn. */
  function reconnect(runs) {
    for (const run of runs) {
      const curve = drawn.get(run.name);
      if (curve && (run.state === "running" || curve.isBehind)) curve.listen();
    }
  }

  async function follow(name) {
    chosen = false;
    await poll();
    if (!drawn.has(name)) only(name);
    rows.get(name)?.element.querySelector("input").focus();
  }

  function lost(error) {
    complaint = error.message;
    announce(complaint);
  }

  function found() {
    if (complaint && document.getElementById("status").textContent === complaint) announce("");
    complaint = null;
  }

  const look = () => poll().catch(lost);
  setInterval(look, POLL);
  document.addEventListener("visibilitychange", look);
  context.events.addEventListener("tab", look);
  poll().then(() => {
    if (allowed && rows.size === 0) openNew();
  }).catch(lost);
}

// ---- a run's row

function makeRow(name, actions) {
  const box = el("input", { type: "checkbox", "aria-label": t("runs-draw", { name }), onchange: () => actions.draw(name, box.checked) });
  const key = el("span", { class: "run-key" });
  const state = el("span", { class: "state" });
  const facts = el("span", { class: "facts soft" });
  const meter = el("progress", { max: 1, value: 0, "aria-label": name });
  const text = el("p", { class: "run-text" });
  const make = (what, kind, act) => el("button", { type: "button", class: kind, "aria-label": `${t(`runs-${what}`)}: ${name}`, onclick: act }, t(`runs-${what}`));
  const stop = make("stop", null, () => {
    row.isStopping = true;
    row.update(row.status);
    actions.ask(name, "stop");
  });
  const resume = make("resume", null, () => actions.ask(name, "resume"));
  const attempt = make("try", null, () => actions.attempt(name));
  const row = {
    status: null,
    isStopping: false,
    isNew: false, // ended while the visitor was here
    element: el("li", { class: "run" },
      el("div", { class: "run-head" }, el("label", { class: "run-name" }, box, key, el("strong", {}, name)), state, facts),
      meter, text, el("div", { class: "row run-actions" }, attempt, stop, resume)),
    check: (isOn) => { box.checked = isOn; },
    mark(line) {
      box.checked = line !== null;
      fill(key, line === null ? null : lineKey(line));
    },
    advance(record) {
      if (record.kind === "step") row.update({ ...row.status, step: record.step, epoch: record.epoch, loss: record.loss });
    },
    update(status) {
      row.status = status;
      if (status.state !== "running") row.isStopping = false;
      const isStarting = status.state === "running" && !status.epochs;
      row.element.dataset.state = status.state;
      state.textContent = row.isStopping ? t("runs-stopping") : isStarting ? t("starting") : t(status.state);
      facts.textContent = factsOf(status);
      meter.hidden = status.state === "finished" || !status.epochs;
      meter.value = status.steps ? status.step / status.steps : 0;
      fill(text, progressOf(status), status.error ? el("span", { class: "error" }, status.error) : null);
      stop.hidden = !status.can_stop || row.isStopping;
      resume.hidden = !status.can_resume;
      attempt.hidden = !status.has_model;
      attempt.classList.toggle("primary", row.isNew && status.state === "finished");
    },
  };
  return row;
}

function factsOf({ recipe, dataset, input }) {
  return [recipe, dataset, input && input.join(" × ")].filter(Boolean).join(" · ");
}

function progressOf(status) {
  const { state, epoch, epochs, loss, seconds, seconds_left: left, best_top1_error: best, best_epoch: bestEpoch, images_per_second: speed } = status;
  if (!epochs) return "";
  const running = state === "running";
  const parts = [
    t("runs-epoch", { epoch: number(Math.min(epochs, running ? Math.floor(epoch) + 1 : Math.floor(epoch))), epochs: number(epochs) }),
    running && left !== null ? t("runs-left", { time: duration(left) }) : null,
    !running && seconds ? t("runs-took", { time: duration(seconds) }) : null,
    running && loss !== null ? t("runs-loss", { loss: number(loss, 2) }) : null,
    best !== null ? t("runs-best", { error: percent(best / 100), epoch: number(bestEpoch) }) : null,
    running && speed ? t("runs-speed", { speed: number(speed) }) : null,
    running && !status.can_stop ? t("runs-elsewhere") : null,
  ];
  return el("span", {}, parts.filter(Boolean).join(" · "));
}

// ---- a run's curves

/** Return a run's data for the curves: loaded once, then grown by its events. */
function makeCurve(name, line, changed, advanced, ended) {
  const path = `v1/runs/${encodeURIComponent(name)}`;
  const data = { name, line, epochs: null, steps: [], validations: [] };
  let source = null;
  let offset = 0;
  let isLoaded = false;
  const curve = { data, isBehind: false, load, listen, pause, close };

  function add(record) {
    if (record.kind === "begin") data.epochs = record.recipe.training.epochs;
    if (record.kind === "step" && record.step > (data.steps.at(-1)?.step ?? -1)) data.steps.push(record);
    if (record.kind === "epoch" && record.epoch > (data.validations.at(-1)?.epoch ?? 0)) data.validations.push(record);
    if (data.steps.length > MAX_STEPS) data.steps = data.steps.filter((_, index) => index % 2);
    advanced(record);
    changed();
  }

  function listen() {
    if (source || !isLoaded) return;
    curve.isBehind = false;
    source = new EventSource(address(`${path}/events`, { after: offset || null }));
    source.addEventListener("record", (event) => {
      offset = Number(event.lastEventId);
      add(JSON.parse(event.data));
    });
    source.addEventListener("reset", () => {
      Object.assign(data, { steps: [], validations: [] });
      offset = 0;
    });
    source.addEventListener("end", () => {
      close();
      ended();
    });
  }

  function close() {
    source?.close();
    source = null;
  }

  function pause() {
    curve.isBehind ||= source !== null;
    close();
  }

  async function load() {
    const run = await request(path);
    Object.assign(data, { epochs: run.epochs, steps: run.history.steps, validations: run.history.epochs });
    offset = run.offset;
    isLoaded = true;
    if (run.state === "running") listen();
    changed();
  }

  return curve;
}
