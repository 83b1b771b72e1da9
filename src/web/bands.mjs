/** One part of a picture through an engine: what a worker does, or the calling thread where there is none. */

import { fillTransparent, hasHidden } from "./alpha.mjs";

/** Pixels of the picture that are passed to a stream at a time: some milliseconds. */
const CHUNK_PIXELS = 1 << 16;

const IS_LITTLE_ENDIAN = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;

/**
 * @typedef {object} Band some rows of a picture with their halo, four samples a pixel
 * @property {Uint8ClampedArray | Uint8Array | Uint16Array} data
 * @property {number} width
 * @property {number} rows of the picture, halo included
 * @property {number} skip rows of the result that belong to the halo above
 * @property {number} keep rows of the result that are wanted
 * @property {"y of rgb" | "y of grey" | "own" | "rgb of grey"} colour of grey: one channel is passed
 * @property {number} fillRadius of transparent pixels; see alpha.mjs
 */

/**
 * The rows of the result that are wanted, chunk by chunk, four samples a pixel.
 * @param {{pixels: any, alpha: () => any}} networks opened in one engine; `alpha` opens its own when called
 * @param {Band} band
 * @returns {Generator<any>}
 */
export function* enhancedRows(networks, band) {
  const { data, width, rows } = band, type = data.constructor;
  const alpha = enhancedAlpha(networks, band);
  if (alpha && hasHidden(data, 0, width * rows))
    fillTransparent({ data, width, height: rows }, band.fillRadius);
  const channels = band.colour.endsWith("of grey") ? 1 : 3, last = band.skip + band.keep;
  const stream = networks.pixels.stream({ height: rows, width, channels, colour: band.colour, type });
  const outputWidth = stream.outputSamples / channels;
  const step = Math.max(1, Math.floor(CHUNK_PIXELS / width));
  try {
    for (let first = 0, given = 0; first < rows && given < last; first += step) {
      const end = Math.min(rows, first + step);
      const result = stream.push(withoutAlpha(data, first * width, end * width, channels));
      const ready = given + result.length / stream.outputSamples;
      const from = Math.max(given, band.skip), until = Math.min(ready, last);
      if (until > from) {
        const [begin, stop] = [from - given, until - given].map((row) => row * stream.outputSamples);
        const ofAlpha = alpha?.subarray(from * outputWidth, until * outputWidth);
        yield withAlpha(result.subarray(begin, stop), ofAlpha, channels);
      } else {
        yield new type(0);
      }
      given = ready;
    }
  } finally {
    stream.close();
  }
}

/** Whether every alpha of these samples is the largest value. */
function isOpaque(data) {
  const white = data instanceof Uint16Array ? 65535 : 255;
  for (let k = 3; k < data.length; k += 4) if (data[k] !== white) return false;
  return true;
}

/** The alpha of the whole result, or null if the picture is opaque. */
function enhancedAlpha(networks, { data, width, rows }) {
  if (isOpaque(data)) return null;
  const alpha = new data.constructor(width * rows);
  for (let k = 0; k < alpha.length; k++) alpha[k] = data[4 * k + 3];
  const network = networks.alpha();
  const stream = network.stream({ height: rows, width, channels: 1, colour: "own", type: data.constructor });
  try {
    return stream.push(alpha);
  } finally {
    stream.close();
    network.close();
  }
}

/** One or three samples of each pixel from `begin` to `end`. */
function withoutAlpha(data, begin, end, channels) {
  const samples = new data.constructor(channels * (end - begin));
  if (channels === 1) {
    for (let k = 0, at = 4 * begin; k < samples.length; k++, at += 4) samples[k] = data[at];
    return samples;
  }
  for (let k = 0, at = 4 * begin; k < samples.length; k += 3, at += 4) {
    samples[k] = data[at];
    samples[k + 1] = data[at + 1];
    samples[k + 2] = data[at + 2];
  }
  return samples;
}

/** Four samples of each pixel. alpha: opaque if there is none. */
function withAlpha(samples, alpha, channels) {
  if (!alpha && channels === 3 && samples.BYTES_PER_ELEMENT === 1 && IS_LITTLE_ENDIAN) return withOpaque(samples);
  const white = samples instanceof Uint16Array ? 65535 : 255, grey = channels === 1;
  const data = new samples.constructor((samples.length / channels) * 4);
  for (let k = 0, at = 0, pixel = 0; at < data.length; k += channels, at += 4, pixel++) {
    data[at] = samples[k];
    data[at + 1] = samples[grey ? k : k + 1];
    data[at + 2] = samples[grey ? k : k + 2];
    data[at + 3] = alpha ? alpha[pixel] : white;
  }
  return data;
}

/**
 * Bytes of three a pixel with an opaque fourth, a pixel at a time: half of the time of byte by byte.
 * Example: the bytes 1, 2, 3 become the number 0xff030201, whose bytes in memory are 1, 2, 3, 255.
 */
function withOpaque(samples) {
  const data = new samples.constructor((samples.length / 3) * 4);
  const pixels = new Uint32Array(data.buffer);
  for (let pixel = 0, k = 0; pixel < pixels.length; pixel++, k += 3)
    pixels[pixel] = samples[k] | (samples[k + 1] << 8) | (samples[k + 2] << 16) | 0xff000000;
  return data;
}
