// Pillow's resizing, to the bit: the pixels that the network was trained on were made by it.
//
// Pixels are bytes, red, green and blue in turn, row by row: {data, width, height}. A box is
// [left, top, right, bottom] in pixels, where it may begin and end within one.

const CHANNELS = 3;
const PRECISION = 22; // bits of a weight after the point, when resizing
const BITS = 24; // and when averaging

const SUPPORT = { box: 0.5, bilinear: 1, bicubic: 2, lanczos: 3 };
const WEIGHTS = { box, bilinear, bicubic, lanczos };

/** Return where the pixels lie from which a box is resized to `size` pixels a side, by how much they
 * are averaged before (Pillow's reducing_gap), and whether the columns are resized before the rows
 * (since Pillow 13, where that leaves less to do): {box, factor, tall}. */
export function plan(box, [width, height], size, filter, gap) {
  const [left, top, right, bottom] = box;
  const scale = (right - left) / size;
  const factor = Math.floor(scale / gap) || 1;
  const margin = factor > 1 ? (SUPPORT[filter] - 0.5) * scale : SUPPORT[filter] * Math.max(scale, 1);
  const safe = [
    Math.max(0, Math.trunc(left - margin)), Math.max(0, Math.trunc(top - margin)),
    Math.min(width, Math.ceil(right + margin)), Math.min(height, Math.ceil(bottom + margin)),
  ];
  const [across, down] = factor > 1 ? [0, 1].map((axis) => Math.ceil((safe[axis + 2] - safe[axis]) / factor)) : [width, height];
  return { box: safe, factor, tall: down - size > 2 * Math.max(0, across - size) };
}

/** Return the mean of each `factor` x `factor` pixels; at the right and the bottom, of what is left. */
export function reduce({ data, width, height }, factor) {
  if (factor === 1) return { data, width, height };
  const columns = Math.ceil(width / factor);
  const rows = Math.ceil(height / factor);
  const reduced = new Uint8Array(rows * columns * CHANNELS);
  for (let row = 0; row < rows; row += 1) {
    const bottom = Math.min(height, (row + 1) * factor);
    for (let column = 0; column < columns; column += 1) {
      const right = Math.min(width, (column + 1) * factor);
      const count = (bottom - row * factor) * (right - column * factor);
      const share = Math.floor(2 ** BITS / count); // as Pillow divides: rounded down
      for (let channel = 0; channel < CHANNELS; channel += 1) {
        let sum = count >> 1;
        for (let y = row * factor; y < bottom; y += 1) {
          for (let x = column * factor; x < right; x += 1) sum += data[(y * width + x) * CHANNELS + channel];
        }
        reduced[(row * columns + column) * CHANNELS + channel] = Math.floor((sum * share) / 2 ** BITS);
      }
    }
  }
  return { data: reduced, width: columns, height: rows };
}

/** Return a box of pixels resized to a square of `size` pixels. */
export function resize(pixels, [left, top, right, bottom], size, filter, tall) {
  const along = weigh(pixels.width, Math.fround(left), Math.fround(right), size, filter);
  const down = weigh(pixels.height, Math.fround(top), Math.fround(bottom), size, filter);
  return tall ? squeezeAlong(squeezeDown(pixels, down), along) : squeezeDown(squeezeAlong(pixels, along), down);
}

function squeezeAlong({ data, width, height }, along) {
  const size = along.length;
  const result = new Uint8Array(height * size * CHANNELS);
  for (let row = 0; row < height; row += 1) {
    along.forEach(({ first, weights }, column) => {
      const from = (row * width + first) * CHANNELS;
      for (let channel = 0; channel < CHANNELS; channel += 1) {
        result[(row * size + column) * CHANNELS + channel] = weighted(data, from + channel, CHANNELS, weights);
      }
    });
  }
  return { data: result, width: size, height };
}

function squeezeDown({ data, width }, down) {
  const rowLength = width * CHANNELS;
  const result = new Uint8Array(down.length * rowLength);
  down.forEach(({ first, weights }, row) => {
    for (let at = 0; at < rowLength; at += 1) {
      result[row * rowLength + at] = weighted(data, first * rowLength + at, rowLength, weights);
    }
  });
  return { data: result, width, height: down.length };
}

function weighted(data, from, step, weights) {
  let sum = 1 << (PRECISION - 1);
  for (let tap = 0; tap < weights.length; tap += 1) sum += data[from + tap * step] * weights[tap];
  return Math.max(0, Math.min(255, sum >> PRECISION));
}

/** Return for each output its first input and the weights, as whole numbers, from there on. */
function weigh(inputs, start, end, size, filter) {
  const scale = Math.fround(end - start) / size;
  const spread = Math.max(scale, 1);
  const support = SUPPORT[filter] * spread;
  return Array.from({ length: size }, (_, output) => {
    const center = start + (output + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const count = Math.min(inputs, Math.trunc(center + support + 0.5)) - first;
    const shares = Array.from({ length: count }, (__, tap) => WEIGHTS[filter]((tap + first - center + 0.5) * (1 / spread)));
    const total = shares.reduce((sum, share) => sum + share, 0);
    return { first, weights: Int32Array.from(shares, (share) => fixed(share / total)) };
  });
}

function fixed(weight) {
  return Math.trunc(weight * (1 << PRECISION) + (weight < 0 ? -0.5 : 0.5));
}

function box(x) {
  return x > -0.5 && x <= 0.5 ? 1 : 0;
}

function bilinear(x) {
  return Math.max(0, 1 - Math.abs(x));
}

function bicubic(x) {
  const a = -0.5;
  const d = Math.abs(x);
  if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  return d < 2 ? (((d - 5) * d + 8) * d - 4) * a : 0;
}

function lanczos(x) {
  return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0;
}

function sinc(x) {
  return x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI);
}
