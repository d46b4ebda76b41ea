// Folders of images from the visitor, dropped or chosen: a class for each folder.

import { droppedFiles } from "./files.js";

const SPLITS = new Set(["train", "val", "test"]);
const UNSAFE = /[\u0000-\u001f\u007f/\\<>:"|?*]/g; // in a name, on one of the systems
const IMAGE = /\.(jpe?g|jpe|jfif|png|webp|bmp|gif|tiff?|p[pgbn]m)$/i; // what the service reads
const MAX_NAME = 120; // letters

/** Return the images below dropped files and folders: [{path: [folder, ..., file], file}]. */
export async function droppedImages(transfer) {
  return (await droppedFiles(transfer)).filter(({ path }) => isImage(path));
}

/** Return the images of an input for folders, like those that are dropped. */
export function chosenImages(files) {
  return [...files].map((file) => ({ path: file.webkitRelativePath.split("/"), file })).filter(({ path }) => isImage(path));
}

function isImage(path) {
  return IMAGE.test(path.at(-1)) && !path.some((name) => name.startsWith("."));
}

/** Sort images into classes: Map of the class -> [{name, file}], names safe and each one once.
 *
 * Several folders are a class each, with all below them; of one folder the folders in it are the
 * classes, or it is one itself. Folders train, val and test above the classes are passed over. */
export function classesOf(images) {
  let inFolders = images.filter(({ path }) => path.length > 1);
  for (;;) {
    const tops = new Set(inFolders.map(({ path }) => path[0]));
    const areDeep = inFolders.length > 0 && inFolders.every(({ path }) => path.length > 2);
    const arePassed = tops.size === 1 || [...tops].every((name) => SPLITS.has(name));
    if (!areDeep || !arePassed) break;
    inFolders = inFolders.map(({ path, file }) => ({ path: path.slice(1), file }));
  }
  const classes = new Map();
  for (const { path, file } of inFolders) {
    const label = safe(path[0]);
    if (!classes.has(label)) classes.set(label, new Map());
    classes.get(label).set(freeName(classes.get(label), safe(path.slice(1).join("_"))), file);
  }
  return new Map([...classes].map(([label, files]) => [label, [...files].map(([name, file]) => ({ name, file }))]));
}

function safe(name) {
  return name.normalize("NFC").replace(UNSAFE, "_").replace(/^[. ]+/, "_").slice(-MAX_NAME).replace(/^ +|[. ]+$/g, "") || "_";
}

/** Two splits can hold files of one name: the second one gets a number. */
function freeName(files, name) {
  if (!files.has(name)) return name;
  let count = 2;
  while (files.has(`${count}_${name}`)) count += 1;
  return `${count}_${name}`;
}
