// An image file as the square of pixels that the network is given, made as `alexnet predict` makes
// it: decoded, laid on the background, resized, cut to the middle, and compressed like the images of
// the dataset where those are.

import { plan, reduce, resize } from "./resize.js";

const CHANNELS = 3;
const GAP = 2; // an image is averaged down to no less than this times the square's side
const BAND = 1 << 20; // pixels that are read at once: large images do not fit a canvas on phones
const QUALITY = 0.95;

/** Return the bytes of the square, row by row, a byte or three for each pixel. */
export async function decodeSquare(file, config) {
  const bitmap = await createImageBitmap(file, {
    imageOrientation: config.exif ? "from-image" : "none",
    colorSpaceConversion: "none",
  });
  const scale = (await isJpeg(file)) ? jpegScale(bitmap, GAP * config.size) : 1;
  const square = resizeSquare(bitmap, scale, config);
  bitmap.close();
  const record = config.encoding === "jpeg" ? await compress(square, config.size) : square;
  return config.channels === 1 ? gray(record) : record;
}

/** Return the middle square of an image, resized: bytes of red, green and blue. */
function resizeSquare(bitmap, scale, config) {
  const size = [bitmap.width / scale, bitmap.height / scale];
  const side = Math.min(...size);
  const box = [...size.map((length) => (length - side) / 2), ...size.map((length) => (length + side) / 2)];
  const { box: read, factor, tall } = plan(box, size.map(Math.ceil), config.size, config.filter, GAP);
  const pixels = reduce(readPixels(bitmap, read, scale, config.background), factor);
  const moved = box.map((edge, at) => (edge - read[at % 2]) / factor);
  return resize(pixels, moved, config.size, config.filter, tall).data;
}

/** Return a box of an image, `scale` x `scale` pixels averaged to one. */
function readPixels(bitmap, [left, top, right, bottom], scale, background) {
  const width = right - left;
  const height = bottom - top;
  const data = new Uint8Array(width * height * CHANNELS);
  const rows = Math.max(1, Math.floor(BAND / (width * scale * scale)));
  for (let row = 0; row < height; row += rows) {
    const count = Math.min(rows, height - row);
    const band = readBand(bitmap, [left, top + row, right, top + row + count].map((edge) => edge * scale), background);
    data.set(reduce(band, scale).data, row * width * CHANNELS);
  }
  return { data, width, height };
}

/** Return a box of an image that is whole pixels, what is transparent laid on the background. */
function readBand(bitmap, [left, top, right, bottom], background) {
  const width = Math.min(right, bitmap.width) - left;
  const height = Math.min(bottom, bitmap.height) - top;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.fillStyle = `rgb(${background.join(" ")})`;
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, left, top, width, height, 0, 0, width, height);
  return { data: withoutAlpha(context.getImageData(0, 0, width, height).data), width, height };
}

/** Return the pixels after they were stored as a JPEG. */
async function compress(square, size) {
  const canvas = new OffscreenCanvas(size, size);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.putImageData(new ImageData(withAlpha(square), size, size), 0, 0);
  const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: QUALITY });
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return withoutAlpha(context.getImageData(0, 0, size, size).data);
}

/** Return the bytes of red, green and blue with those of an opaque alpha after each three. */
export function withAlpha(rgb) {
  const rgba = new Uint8ClampedArray((rgb.length / 3) * 4).fill(255);
  for (let pixel = 0; pixel < rgb.length / 3; pixel += 1) rgba.set(rgb.subarray(3 * pixel, 3 * pixel + 3), 4 * pixel);
  return rgba;
}

function withoutAlpha(rgba) {
  const rgb = new Uint8Array((rgba.length / 4) * 3);
  for (let pixel = 0; pixel < rgba.length / 4; pixel += 1) {
    for (let channel = 0; channel < 3; channel += 1) rgb[3 * pixel + channel] = rgba[4 * pixel + channel];
  }
  return rgb;
}

/** Return the luma of pixels (ITU-R 601), as Pillow rounds it. */
function gray(rgb) {
  return Uint8Array.from({ length: rgb.length / 3 }, (_, pixel) =>
    (19595 * rgb[3 * pixel] + 38470 * rgb[3 * pixel + 1] + 7471 * rgb[3 * pixel + 2] + 0x8000) >> 16);
}

async function isJpeg(file) {
  const [first, second] = new Uint8Array(await file.slice(0, 2).arrayBuffer());
  return first === 0xff && second === 0xd8;
}

/** Return by how much a large JPEG is scaled while it is decoded; here it is averaged instead. */
function jpegScale({ width, height }, least) {
  const most = Math.min(Math.floor(width / least), Math.floor(height / least));
  return [8, 4, 2].find((scale) => most >= scale) ?? 1;
}
