/** PNG files, read and written with exact samples: 8 and 16 bits, alpha, and the chunks that define colours. */

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const CHANNELS = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };
const COLOUR_CHUNKS = new Set(["iCCP", "sRGB", "gAMA", "cHRM", "cICP"]);
const MAX_PIXELS = 2 ** 29;
/** Bytes of an IDAT chunk that is written. */
const IDAT_BYTES = 1 << 18;
/** Bytes of filtered rows that are compressed at a time. */
const BATCH_BYTES = 1 << 20;

/** True if the bytes begin a PNG file. @param {Uint8Array} bytes */
export const isPng = (bytes) => SIGNATURE.every((value, k) => bytes[k] === value);

/**
 * A picture with four samples a pixel; `grey`: all three colours are equal; `chunks`: what defines its colours.
 * @typedef {{width: number, height: number, data: Uint8ClampedArray | Uint16Array, grey: boolean,
 *            chunks: {type: string, content: Uint8Array}[]}} PngPicture
 */

/** Of each pass of an interlaced file: first column and row, steps between columns and rows. */
const PASSES = [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]];

/**
 * The picture of a PNG file. Throws for damaged files.
 * @param {Uint8Array} bytes
 * @returns {Promise<PngPicture>}
 */
export async function decodePng(bytes) {
  const { header, palette, transparent, chunks, compressed } = readChunks(bytes);
  const { width, height, depth, colour } = header, bits = CHANNELS[colour] * depth;
  const data = new (depth === 16 ? Uint16Array : Uint8ClampedArray)(4 * width * height);
  const expand = expander({ depth, colour, palette, transparent, data });
  const rows = storedRows(header);
  let row = rows.next().value, filled = 0, line, above;
  for await (const part of inflated(compressed)) {
    for (let at = 0; at < part.length && row; ) {
      if (row.first) [line, above] = [0, 1].map(() => new Uint8Array(Math.ceil((row.count * bits) / 8) + 1));
      row.first = false;
      const count = Math.min(part.length - at, line.length - filled);
      line.set(part.subarray(at, at + count), filled);
      filled += count;
      at += count;
      if (filled < line.length) continue;
      unfilter(line, above, Math.max(1, bits >> 3));
      expand(line, row);
      [line, above, filled] = [above, line, 0];
      row = rows.next().value;
    }
  }
  if (row) throw new Error("the file is cut off");
  return { width, height, data, grey: (colour === 0 || colour === 4), chunks };
}

/** Every row in the order of the file: its pixels' count, the first one's index, the step, whether a pass begins. */
function* storedRows({ width, height, interlaced }) {
  for (const [x, y, right, down] of interlaced ? PASSES : [[0, 0, 1, 1]]) {
    const count = Math.ceil((width - x) / right);
    if (count <= 0) continue;
    for (let row = y; row < height; row += down)
      yield { count, start: row * width + x, step: right, first: row === y };
  }
}

/** True if every pixel is opaque. @param {Uint8ClampedArray | Uint16Array} data four samples a pixel */
export function isOpaque(data) {
  const white = data instanceof Uint16Array ? 65535 : 255;
  for (let k = 3; k < data.length; k += 4) if (data[k] !== white) return false;
  return true;
}

function readChunks(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const chunks = [], compressed = [];
  let header, palette, transparent;
  for (let at = 8; at + 12 <= bytes.length; ) {
    const size = view.getUint32(at), type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    const content = bytes.subarray(at + 8, at + 8 + size);
    if (content.length < size) break;
    if (type === "IHDR") header = readHeader(view, at + 8);
    else if (type === "PLTE") palette = content;
    else if (type === "tRNS") transparent = content;
    else if (type === "IDAT") compressed.push(content);
    else if (COLOUR_CHUNKS.has(type)) chunks.push({ type, content });
    else if (type === "IEND") break;
    at += 12 + size;
  }
  if (!header || !compressed.length) throw new Error("the file is damaged or cut off");
  if (header.colour === 3 && !palette) throw new Error("the file is damaged: it has no palette");
  return { header, palette, transparent, chunks, compressed };
}

function readHeader(view, at) {
  const [width, height] = [view.getUint32(at), view.getUint32(at + 4)];
  const [depth, colour, interlaced] = [8, 9, 12].map((k) => view.getUint8(at + k));
  const known = colour in CHANNELS && [1, 2, 4, 8, 16].includes(depth) && (depth >= 8 || colour % 3 === 0);
  if (!known || (colour === 3 && depth > 8) || !width || !height) throw new Error("the file is damaged: its header is wrong");
  if (width * height > MAX_PIXELS) throw new Error(`its ${width} × ${height} pixels are too many for a browser`);
  return { width, height, depth, colour, interlaced: interlaced !== 0 };
}

/** The decompressed bytes, part by part. @param {Uint8Array[]} compressed */
async function* inflated(compressed) {
  const reader = new Blob(compressed).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  try {
    for (let part; !(part = await reader.read()).done; ) yield part.value;
  } catch {
    throw new Error("the file is damaged or cut off");
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Undoes a row's filter in place; byte 0 of a row is its filter. step: bytes from a pixel to the next. */
function unfilter(line, above, step) {
  const filter = line[0], size = line.length;
  if (filter === 0) return;
  if (filter > 4) throw new Error("the file is damaged: a row has an unknown filter");
  for (let k = 1; k < size; k++) {
    const left = k > step ? line[k - step] : 0, up = above[k], corner = k > step ? above[k - step] : 0;
    if (filter === 1) line[k] += left;
    else if (filter === 2) line[k] += up;
    else if (filter === 3) line[k] += (left + up) >> 1;
    else line[k] += paeth(left, up, corner);
  }
}

function paeth(left, up, corner) {
  const guess = left + up - corner;
  const a = Math.abs(guess - left), b = Math.abs(guess - up), c = Math.abs(guess - corner);
  return a <= b && a <= c ? left : b <= c ? up : corner;
}

/** A function that writes a row's samples as four samples a pixel. */
function expander({ depth, colour, palette, transparent, data }) {
  const white = depth === 16 ? 65535 : 255, levels = 2 ** depth - 1;
  const sample = (line, k) => {
    if (depth === 8) return line[k + 1];
    if (depth === 16) return (line[2 * k + 1] << 8) | line[2 * k + 2];
    const bit = k * depth;
    return (line[1 + (bit >> 3)] >> (8 - depth - (bit & 7))) & levels;
  };
  const key = transparent && colour !== 3 ? keyOf(transparent, colour) : null;
  const scaled = (value) => (depth < 8 ? (value * 255) / levels : value);
  return (line, { count, start, step }) => {
    for (let x = 0, at = 4 * start; x < count; x++, at += 4 * step) {
      if (colour === 3) {
        const index = sample(line, x);
        for (let c = 0; c < 3; c++) data[at + c] = palette[3 * index + c] ?? 0;
        data[at + 3] = transparent?.[index] ?? 255;
      } else if (colour === 0 || colour === 4) {
        const first = colour === 4 ? 2 * x : x, value = sample(line, first);
        data[at] = data[at + 1] = data[at + 2] = scaled(value);
        data[at + 3] = colour === 4 ? sample(line, first + 1) : key && key[0] === value ? 0 : white;
      } else {
        const first = (colour === 6 ? 4 : 3) * x;
        for (let c = 0; c < 3; c++) data[at + c] = sample(line, first + c);
        const hidden = key && key.every((value, c) => data[at + c] === value);
        data[at + 3] = colour === 6 ? sample(line, first + 3) : hidden ? 0 : white;
      }
    }
  };
}

function keyOf(transparent, colour) {
  const count = colour === 0 ? 1 : 3;
  return Array.from({ length: count }, (_, c) => (transparent[2 * c] << 8) | transparent[2 * c + 1]);
}

/**
 * A PNG file: 8 bits, or 16 for 16-bit samples; grey where the picture is; alpha only where it is not opaque.
 * @param {PngPicture} picture
 * @returns {Promise<Blob>}
 */
export async function encodePng({ width, height, data, grey, chunks }) {
  const wide = data instanceof Uint16Array, alpha = !isOpaque(data);
  const offsets = [...(grey ? [0] : [0, 1, 2]), ...(alpha ? [3] : [])];
  const header = new Uint8Array(13), view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([wide ? 16 : 8, (grey ? 0 : 2) + (alpha ? 4 : 0), 0, 0, 0], 8);
  const parts = [Uint8Array.from(SIGNATURE), ...chunk("IHDR", header)];
  for (const { type, content } of chunks) parts.push(...chunk(type, content));
  const rows = filteredRows(data, width, height, offsets, wide);
  const source = new ReadableStream({
    pull(controller) {
      const { value, done } = rows.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
  });
  let held = [], size = 0;
  const flush = () => {
    parts.push(...chunk("IDAT", joined(held, size)));
    [held, size] = [[], 0];
  };
  const reader = source.pipeThrough(new CompressionStream("deflate")).getReader();
  for (let part; !(part = await reader.read()).done; ) {
    held.push(part.value);
    size += part.value.length;
    if (size >= IDAT_BYTES) flush();
  }
  if (size) flush();
  return new Blob([...parts, ...chunk("IEND", new Uint8Array(0))], { type: "image/png" });
}

/** Rows with the filter Paeth, in batches. */
function* filteredRows(data, width, height, offsets, wide) {
  const sampleBytes = wide ? 2 : 1, step = offsets.length * sampleBytes, rowBytes = step * width;
  const rowsAtOnce = Math.max(1, Math.floor(BATCH_BYTES / rowBytes));
  let above = new Uint8Array(rowBytes), line = new Uint8Array(rowBytes);
  for (let first = 0; first < height; first += rowsAtOnce) {
    const last = Math.min(height, first + rowsAtOnce);
    const batch = new Uint8Array((last - first) * (rowBytes + 1));
    for (let row = first, to = 0; row < last; row++) {
      for (let x = 0, k = 0, at = 4 * width * row; x < width; x++, at += 4)
        for (const offset of offsets) {
          const value = data[at + offset];
          if (wide) line[k++] = value >> 8;
          line[k++] = value;
        }
      batch[to++] = 4;
      for (let k = 0; k < rowBytes; k++) {
        const left = k >= step ? line[k - step] : 0, corner = k >= step ? above[k - step] : 0;
        batch[to++] = line[k] - paeth(left, above[k], corner);
      }
      [line, above] = [above, line];
    }
    yield batch;
  }
}

function joined(parts, size) {
  const all = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** A chunk: size and type, content, check. */
function chunk(type, content) {
  const head = new Uint8Array(8), tail = new Uint8Array(4);
  new DataView(head.buffer).setUint32(0, content.length);
  for (let k = 0; k < 4; k++) head[4 + k] = type.charCodeAt(k);
  new DataView(tail.buffer).setUint32(0, crc(content, crc(head.subarray(4))) ^ -1);
  return [head, content, tail];
}

const CRC_TABLE = Int32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

function crc(bytes, value = -1) {
  for (let k = 0; k < bytes.length; k++) value = (value >>> 8) ^ CRC_TABLE[(value ^ bytes[k]) & 255];
  return value;
}
