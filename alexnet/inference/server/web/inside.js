// The tab "Look inside": one image on its way through the network, from what the network saw to
// the images of the dataset that look alike to it. Each part is a file in inside/.

import { request } from "./api.js";
import { announce, el, fill } from "./dom.js";
import { exampleImage } from "./example.js";
import { acceptImages, fileButton } from "./files.js";
import { addTexts, t } from "./i18n.js";
import { showAttention } from "./inside/attention.js";
import { showLayers } from "./inside/layers.js";
import { showNeighbors } from "./inside/neighbors.js";
import { showInput } from "./inside/seen.js";

addTexts({
  en: { "other-image": "Choose an image", "example-image": "Another image from the dataset", "needs-image": "Choose an image, drop one on the page, or paste one: you will see what every layer makes of it." },
  zh: { "other-image": "选择图像", "example-image": "换一张数据集图像", "needs-image": "选择、拖入或粘贴一张图像，就能看到每一层如何处理它。" },
});

export function mount(section, context) {
  const parts = el("div", { class: "parts" });
  const take = ([file]) => context.setImage(file);
  const takeExample = async () => take([(await exampleImage(context)) ?? context.image]);
  const example = el("button", { type: "button", onclick: takeExample }, t("example-image"));
  let stop = new AbortController();

  async function show() {
    stop.abort();
    stop = new AbortController();
    const { signal } = stop;
    example.hidden = !modelInfo(context).dataset;
    context.image ??= await exampleImage(context);
    if (signal.aborted) return;
    if (context.image) await showParts(parts, makeSubject(context, signal));
    else fill(parts, el("p", { class: "soft" }, t("needs-image")));
  }

  fill(section, el("div", { class: "row source" }, fileButton(t("other-image"), take), example), parts);
  acceptImages(section, take);
  context.events.addEventListener("image", show);
  context.events.addEventListener("model", show);
  show();
}

function modelInfo(context) {
  return context.info.models.find((model) => model.name === context.model);
}

/** Return what all parts look at: the image, the model, and how to ask the service about them. */
function makeSubject(context, signal) {
  const model = modelInfo(context);
  const { image } = context;
  return {
    image,
    model,
    signal,
    ask: (path, query = {}, own = signal) =>
      request(path, { body: image, query: { model: model.name, ...query }, signal: own }),
  };
}

async function showParts(parts, subject) {
  try {
    const input = await subject.ask("v1/explain/input");
    const places = ["seen", "attention", "layers", "neighbors"].map((name) => el("section", { class: name }));
    const [seen, attention, layers, neighbors] = places;
    fill(parts, places);
    announce("");
    showInput(seen, { ...subject, input });
    showAttention(attention, { ...subject, input });
    showLayers(layers, { ...subject, input });
    showNeighbors(neighbors, { ...subject, input });
  } catch (error) {
    if (error.name === "AbortError") return;
    fill(parts, el("p", { class: "error" }, `${subject.image.name}: ${error.message}`));
  }
}
