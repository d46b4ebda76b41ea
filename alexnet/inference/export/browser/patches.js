// Where a patch covers the crop, place by place, for an occlusion map.

/** Return [row, column, size] of all places of a square grid, every fourth one first: a place stands
 * for the size x size places from it on, until they have their own turn. */
export function coarseToFine(count) {
  const order = new Map();
  for (const size of [4, 2, 1]) {
    for (let row = 0; row < count; row += size) {
      for (let column = 0; column < count; column += size) {
        const place = row * count + column;
        if (!order.has(place)) order.set(place, [row, column, size]);
      }
    }
  }
  return [...order.values()];
}

/** Return a mask of the crop that covers nothing. */
export function fullMask(side) {
  return new Float32Array(side * side).fill(1);
}

/** Return a mask of the crop that covers a patch. */
export function coveredMask(side, top, left, patch) {
  const mask = fullMask(side);
  for (let row = top; row < top + patch; row += 1) mask.fill(0, row * side + left, row * side + left + patch);
  return mask;
}

/** Write a value into a square of a map, a list of rows. */
export function fillDrop(drop, top, left, size, value) {
  for (const row of drop.slice(top, top + size)) row.fill(value, left, left + size);
}
