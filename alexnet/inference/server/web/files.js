// Image files from the visitor: chosen, dropped (folders too), pasted; and small copies to show.

import { el } from "./dom.js";

/** Give `take` the files that are dropped on the page or pasted while a section is shown. */
export function acceptImages(section, take) {
  document.addEventListener("dragover", (event) => {
    if (section.hidden) return;
    event.preventDefault();
    section.classList.add("dropping");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) section.classList.remove("dropping");
  });
  document.addEventListener("drop", async (event) => {
    if (section.hidden) return;
    event.preventDefault();
    section.classList.remove("dropping");
    const files = imagesOf(await droppedFiles(event.dataTransfer));
    if (files.length) take(files);
  });
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!section.hidden && files.length) take(files);
  });
}

/** Return a button that lets the visitor choose image files; `capture`: by the phone's camera. */
export function fileButton(label, take, { multiple = false, capture = null, primary = false } = {}) {
  const input = el("input", {
    type: "file", accept: "image/*", multiple, capture, class: "visually-hidden",
    onchange: () => {
      if (input.files.length) take([...input.files]);
      input.value = ""; // so that the same file can be chosen again
    },
  });
  return el("label", { class: primary ? "button primary" : "button" }, label, input);
}

/** Return dropped files and those in dropped folders: [{path: [folder, ..., name], file}]. */
export async function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const found = [...transfer.files].map((file) => ({ path: [file.name], file }));
  if (!entries.some((entry) => entry.isDirectory)) return found;
  const inFolders = [];
  for (const entry of entries) await collect(entry, [], inFolders);
  return inFolders;
}

async function collect(entry, folders, found) {
  const path = [...folders, entry.name];
  if (entry.isFile) {
    found.push({ path, file: await new Promise((resolve, reject) => entry.file(resolve, reject)) });
    return;
  }
  const reader = entry.createReader();
  for (;;) { // a reader gives a hundred entries at a time
    const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!part.length) return;
    for (const inner of part) await collect(inner, path, found);
  }
}

/** Return the dropped files, of folders only the images: folders hold other things as well. */
function imagesOf(found) {
  return found.filter(({ path, file }) => path.length === 1 || file.type.startsWith("image/")).map(({ file }) => file);
}

/** Show a small copy of an image file in an img, of at most `side` pixels; false where the browser
 * cannot read it. Only the copy stays in memory. */
export async function showSmall(img, file, side) {
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (!bitmap) return false;
  const scale = Math.min(1, side / Math.max(bitmap.width, bitmap.height));
  const canvas = drawn(bitmap, Math.max(1, bitmap.width * scale), Math.max(1, bitmap.height * scale));
  bitmap.close();
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.88));
  await showBlob(img, blob);
  return true;
}

/** Draw an image into a new canvas of a size. */
export function drawn(image, width, height) {
  const canvas = el("canvas", { width: Math.round(width), height: Math.round(height) });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas;
}

/** Return an image of an address once it can be drawn. */
export async function loadImage(src) {
  const image = new Image();
  image.src = src;
  await image.decode();
  return image;
}

async function showBlob(img, blob) {
  const url = URL.createObjectURL(blob);
  img.src = url;
  await img.decode().catch(() => null);
  URL.revokeObjectURL(url);
}
