// What the service answers about one image, computed here: the classes, what the network saw, the
// maps of a layer, a unit, and where it looked by occlusion. The answers have the service's form.

import { decodeSquare, withAlpha } from "./decode.js";
import { coarseToFine, coveredMask, fillDrop } from "./patches.js";

const TOP = 5;
const COUNT = 48; // maps
const BATCH = 4; // crops in one step; between two steps other questions are answered
const CHANNELS = 4; // of a canvas

/** Return an image as the network sees it, with the outputs of all layers once they are asked for. */
export async function openImage(network, file) {
  const square = await decodeSquare(file, network.page.decode_config);
  const names = network.page.models[0].layers.map((layer) => layer.name).filter((name) => network.page.outputs.includes(name));
  let outputs = null;
  return {
    square,
    outputs() {
      outputs ??= network.run(square, ["probabilities", ...names]);
      return outputs;
    },
  };
}

/** Answer with the likeliest classes. */
export async function predict(network, { square }) {
  const { probabilities } = await network.run(square, ["probabilities"]);
  return { predictions: [{ top: topClasses(network, probabilities.data) }] };
}

/** Answer with the crop, its place in the square, the mean and the likeliest classes. */
export async function input(network, image) {
  const { probabilities } = await image.outputs();
  const [size] = network.page.square;
  const margin = Math.floor((size - network.side) / 2);
  return {
    record: [size, size],
    crop: await dataUrl(cropPixels(image.square, network.page.square, margin, network.side)),
    mean: "mean.png",
    box: [margin, margin, margin + network.side, margin + network.side],
    top: topClasses(network, probabilities.data),
  };
}

/** Answer with the strongest maps of a layer as pictures, or with the values of its units. */
export async function maps(network, image, { layer, count = COUNT }) {
  const units = unitsOf((await image.outputs())[layer]);
  const strongest = units.map((unit) => unit.max).map((max, at) => [max, at]).sort((a, b) => b[0] - a[0]).slice(0, count).map(([, at]) => at);
  const { shape } = units[0];
  if (!shape.length) {
    return { layer, shape: [units.length, 1, 1], units: strongest.map((unit) => ({ unit, value: units[unit].max })) };
  }
  const scale = Math.max(...units.map((unit) => unit.largest));
  const pictures = strongest.map(async (unit) => ({ unit, max: units[unit].max, image: await mapUrl(network, units[unit], scale) }));
  return { layer, shape: [units.length, ...shape], scale, maps: await Promise.all(pictures) };
}

/** Answer with a unit's largest value, where it is, its map, and the pixels that it sees there. */
export async function unit(network, image, { layer, unit: number }) {
  const { values, shape, max, largest } = unitsOf((await image.outputs())[layer])[number];
  const at = values.indexOf(max);
  const [row, column] = shape.length ? [Math.floor(at / shape[1]), at % shape[1]] : [0, 0];
  const [[top, bottom], [left, right]] = [network.page.fields[layer][row], network.page.fields[layer][column]];
  return {
    layer, unit: number, value: max, position: [row, column],
    receptive_field: { size: [bottom - top, right - left], box: [top, left, bottom, right] },
    map: shape.length ? await mapUrl(network, { values, shape }, largest) : null,
    kernel: layer === network.page.models[0].layers[0].name ? network.page.kernels[number] ?? null : null,
  };
}

/** Yield the probability that a class loses by a patch at each place, coarse to fine. */
export async function* occlusion(network, image, { label }) {
  const index = network.page.models[0].classes.indexOf(label);
  const unoccluded = (await image.outputs()).probabilities.data[index];
  const { patch, corners } = network.page.occlusion;
  const places = coarseToFine(corners.length);
  const steps = Math.ceil(places.length / BATCH);
  const drop = corners.map(() => corners.map(() => 0));
  for (let step = 1; step <= steps; step += 1) {
    const chunk = places.slice((step - 1) * BATCH, step * BATCH);
    const masks = chunk.map(([row, column]) => coveredMask(network.side, corners[row], corners[column], patch));
    const { probabilities } = await network.run(image.square, ["probabilities"], masks);
    const classes = probabilities.dims[1];
    chunk.forEach(([row, column, size], at) => fillDrop(drop, row, column, size, unoccluded - probabilities.data[at * classes + index]));
    yield { class: label, step, steps, patch, corners, drop };
  }
}

function topClasses(network, probabilities) {
  const { classes } = network.page.models[0];
  const order = Array.from(probabilities.keys()).sort((a, b) => probabilities[b] - probabilities[a]);
  return order.slice(0, TOP).map((index) => ({ class: classes[index], probability: probabilities[index] }));
}

/** Return a layer's units: values of a shape [rows, columns] or [], the largest one and the largest
 * magnitude. */
function unitsOf({ dims, data }) {
  const [, units, ...shape] = dims;
  const size = data.length / units;
  return Array.from({ length: units }, (_, unit) => {
    const values = data.subarray(unit * size, (unit + 1) * size);
    const max = values.reduce((most, value) => Math.max(most, value), -Infinity);
    const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    return { values, shape, max, largest };
  });
}

// ---- pictures

/** Return a map as a picture: blue is positive, rust negative, white is 0. */
function mapUrl({ page }, { values, shape }, largest) {
  const [height, width] = shape;
  const image = new ImageData(width, height);
  const half = (page.palette.length - 1) / 2;
  values.forEach((value, at) => {
    const level = Math.round(Math.max(0, Math.min(page.palette.length - 1, half + (half * value) / (largest || 1))));
    image.data.set([...page.palette[level], 255], CHANNELS * at);
  });
  return dataUrl(image);
}

/** Return the crop of a square [side, side, channels], as the network sees it. */
function cropPixels(square, [size, , channels], margin, side) {
  const crop = new Uint8Array(side * side * 3);
  for (let row = 0; row < side; row += 1) {
    for (let at = 0; at < side * 3; at += 1) {
      const channel = channels === 1 ? 0 : at % 3;
      crop[row * side * 3 + at] = square[((row + margin) * size + margin + Math.floor(at / 3)) * channels + channel];
    }
  }
  return new ImageData(withAlpha(crop), side, side);
}

async function dataUrl(image) {
  const canvas = new OffscreenCanvas(image.width, image.height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return new FileReaderSync().readAsDataURL(await canvas.convertToBlob({ type: "image/png" }));
}
