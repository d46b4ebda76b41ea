// The tab "Try".

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { pageTest } from "./browser.mjs";
import { alexnet, images } from "./service.mjs";

const classes = () => readdirSync(images).sort();
const image = (label, number = 0) => join(images, label, readdirSync(join(images, label)).sort()[number]);
const HEADLINES = ".result .headline";

pageTest("an example of the dataset is there at once", {}, async (page) => {
  await page.waitForSelector(".result .bars");
  assert.equal(await page.locator(".result .bars li").count(), 5);
});

pageTest("an example that comes late does not take the place of a chosen image", {}, async (page) => {
  const held = [];
  await page.route("**/v1/dataset?*", (route) => held.push(route));
  await page.reload();
  await page.waitForSelector("#try input[type=file]", { state: "attached" });
  await page.setInputFiles("#try input[type=file]", image("cat"));
  await page.waitForSelector(".result .bars");
  const name = await page.locator(".result:first-child").textContent();
  for (const route of held) await route.continue();
  await page.waitForTimeout(1000);
  assert.ok(held.length > 0);
  assert.equal(await page.locator(".result:first-child").textContent(), name);
});

pageTest("five answers are those of alexnet predict", {}, async (page, { folder, url }) => {
  const file = image("cat");
  const printed = alexnet("predict", join(folder, "first"), file, "--json", "--device", "cpu", "--precision", "fp32");
  const expected = JSON.parse(printed)[0].top;
  const answer = await fetch(new URL("v1/predict?model=first", url), { method: "POST", body: readFileSync(file) });
  const { predictions: [{ top }] } = await answer.json();
  assert.deepEqual(top.map((one) => one.class), expected.map((one) => one.class));
  top.forEach(({ probability }, rank) => assert.ok(Math.abs(probability - expected[rank].probability) < 5e-5));
  await page.setInputFiles("#try input[type=file]", file);
  await page.waitForSelector('.result:has(img[alt="00000.jpg"]) .bars');
  const shown = await page.$$eval(".bars li", (items) => items.map((item) => [...item.children].map((part) => part.textContent)));
  assert.deepEqual(shown, top.map((one) => [one.class, `${(100 * one.probability).toFixed(1)}\u00a0%`]));
});

pageTest("two models answer side by side", {}, async (page) => {
  await page.setInputFiles("#try input[type=file]", [image("boat"), image("fish")]);
  await page.selectOption(".ask select", "second");
  await page.waitForFunction(() => document.querySelectorAll(".result .headline").length === 4);
  assert.deepEqual(await page.$$eval(".result:first-child h3", (all) => all.map((one) => one.textContent)), ["first", "second"]);
});

pageTest("an image is pasted", {}, async (page) => {
  await page.waitForSelector(HEADLINES);
  await give(page, "paste", [image("key")]);
  await page.waitForSelector(".result figcaption:has-text('00000.jpg')");
  await page.waitForSelector(HEADLINES);
});

pageTest("a file that is no image says so in its place", { refused: [415] }, async (page) => {
  const files = [readFileSync(image("tree")), Buffer.from("no image"), readFileSync(image("cup"))]
    .map((buffer, at) => ({ name: `${at}.jpg`, mimeType: "image/jpeg", buffer }));
  await page.setInputFiles("#try input[type=file]", files);
  await page.waitForFunction(() => document.querySelectorAll(".result .headline").length === 2);
  assert.match(await page.textContent(".result:nth-child(2) .error"), /cannot be read/);
});

pageTest("200 dropped images: two requests at once, and no copy left", {}, async (page) => {
  await page.evaluate(countCopies);
  await page.waitForSelector(HEADLINES);
  const files = classes().flatMap((label) => readdirSync(join(images, label)).map((name) => join(images, label, name))).slice(0, 200);
  const flying = { now: 0, most: 0 };
  page.on("request", (request) => {
    if (!request.url().includes("/v1/predict")) return;
    flying.now += 1;
    flying.most = Math.max(flying.most, flying.now);
  });
  page.on("requestfinished", (request) => {
    if (request.url().includes("/v1/predict")) flying.now -= 1;
  });
  await give(page, "drop", files);
  await page.waitForFunction(() => document.querySelectorAll(".result .headline").length === 200, null, { timeout: 120_000 });
  await page.waitForFunction(() => globalThis.copies.made >= 200 && globalThis.copies.made === globalThis.copies.revoked);
  assert.ok(flying.most <= 2, `${flying.most} requests at once`);
});

pageTest("the camera's picture is answered as it moves, and kept", { permissions: ["camera"] }, async (page) => {
  await page.click("text=Use the camera");
  await page.waitForSelector(".camera .bars");
  await page.click("text=Keep this picture");
  await page.waitForSelector(".result figcaption:has-text('camera.jpg')");
  await page.click("text=Close the camera");
  assert.equal(await page.locator("video").count(), 0);
});

/** Drop or paste files on the page. */
async function give(page, event, paths) {
  const contents = paths.map((path) => [path.split("/").at(-1), readFileSync(path).toString("base64")]);
  await page.evaluate(([kind, all]) => {
    const transfer = new DataTransfer();
    for (const [name, base64] of all) {
      const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
      transfer.items.add(new File([bytes], name, { type: "image/jpeg" }));
    }
    const happening = kind === "paste"
      ? new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true })
      : new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true });
    document.body.dispatchEvent(happening);
  }, [event, contents]);
}

/** Count the addresses of copies in memory: those made, and those given up. */
function countCopies() {
  globalThis.copies = { made: 0, revoked: 0 };
  const { createObjectURL, revokeObjectURL } = URL;
  URL.createObjectURL = (blob) => {
    globalThis.copies.made += 1;
    return createObjectURL.call(URL, blob);
  };
  URL.revokeObjectURL = (url) => {
    globalThis.copies.revoked += 1;
    revokeObjectURL.call(URL, url);
  };
}
