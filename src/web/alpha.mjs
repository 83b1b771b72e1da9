/**
 * Colours of fully transparent pixels, replaced so that they do not bleed into visible edges: as
 * `onebranch.images.alpha.fill_transparent`, to the last bit.
 */

const { fround } = Math;

/** Rows of a picture that are filled at a time. */
const BAND_ROWS = 64;

/**
 * Fills the pixels in place: each fully transparent one gets the mean colour of the visible ones within
 * `radius` pixels along each axis, weighted by alpha and nearness, where there is one.
 * @param {{data: any, width: number, height: number}} picture four samples a pixel
 * @param {number} radius
 */
export function fillTransparent({ data, width, height }, radius) {
  const white = data instanceof Uint16Array ? 65535 : 255;
  const original = data.slice();
  for (let first = 0; first < height; first += BAND_ROWS) {
    const last = Math.min(height, first + BAND_ROWS);
    if (hasHidden(original, first * width, last * width))
      fillRows(data, original, { width, height, first, last, radius, white });
  }
}

/** True if a pixel from `begin` to `end` is fully transparent. */
export function hasHidden(data, begin, end) {
  for (let pixel = begin; pixel < end; pixel++) if (data[4 * pixel + 3] === 0) return true;
  return false;
}

function fillRows(data, original, { width, height, first, last, radius, white }) {
  const top = Math.max(0, first - radius), bottom = Math.min(height, last + radius);
  const values = new Float32Array((bottom - top) * width * 4);
  for (let k = 0; k < values.length; k += 4) {
    const at = 4 * top * width + k, alpha = fround(original[at + 3] / white);
    for (let c = 0; c < 3; c++) values[k + c] = fround(fround(original[at + c] / white) * alpha);
    values[k + 3] = alpha;
  }
  const down = triangleSum(values, radius, 4 * width, bottom - top, 4 * width);
  const sums = triangleSum(down, radius, 4, width, 4 * width);
  for (let pixel = first * width; pixel < last * width; pixel++) {
    const at = 4 * (pixel - top * width), weight = sums[at + 3];
    if (original[4 * pixel + 3] !== 0 || !(weight > 0)) continue;
    for (let c = 0; c < 3; c++) {
      const mean = Math.min(Math.max(fround(sums[at + c] / weight), 0), 1);
      data[4 * pixel + c] = Math.floor(fround(fround(mean * white) + 0.5));
    }
  }
}

/**
 * Along an axis, the sum over `radius` neighbours on both sides, with triangle weights and zeros beyond.
 * Example: radius 1 has the weights 1, 2, 1, so 0 0 4 0 becomes 0 4 8 4. The additions are in numpy's order:
 * for each distance first the neighbours before, then those after.
 * step: samples from neighbour to neighbour. length: neighbours in a line. row: samples of a row.
 */
function triangleSum(values, radius, step, length, row) {
  const result = new Float32Array(values.length);
  const reach = Math.min(radius, length - 1);
  for (let at = 0; at < values.length; at++) {
    const position = step === row ? Math.floor(at / row) : Math.floor((at % row) / step);
    let sum = fround(values[at] * (radius + 1));
    for (let distance = 1; distance <= reach; distance++) {
      const weight = radius + 1 - distance;
      if (position >= distance) sum = fround(sum + fround(values[at - distance * step] * weight));
      if (position + distance < length) sum = fround(sum + fround(values[at + distance * step] * weight));
    }
    result[at] = sum;
  }
  return result;
}
