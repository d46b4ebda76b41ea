// An image of the model's dataset, so that the page is not empty before the visitor brings one.

import { request, requestFile } from "./api.js";
import { addTexts, t } from "./i18n.js";

addTexts({ en: { example: "An image from the dataset" }, zh: { example: "数据集中的一张图像" } });

/** Return an image of the model's dataset, a different one each time; null where there is none. */
export async function exampleImage(context) {
  const { model } = context;
  if (!context.info.models.some((one) => one.name === model && one.dataset)) return null;
  try {
    const { splits } = await request("v1/dataset", { query: { model } });
    const split = splits.val ? "val" : Object.keys(splits)[0];
    const index = Math.floor(Math.random() * splits[split]);
    return await requestFile(`v1/dataset/${split}/${index}.jpg`, t("example"), { query: { model } });
  } catch {
    return null; // the page can do without
  }
}
