/**
 * The worker that holds the pictures: it decodes them, has them enhanced, cuts out tiles for display, and
 * encodes results. The page itself only draws.
 */

import { load } from "./onebranch.mjs";
import { decodePng, encodePng, isPng } from "./png.mjs";
import { pngChunk, profileInChunk, profileOf, withJpegProfile, withWebpProfile } from "./profiles.mjs";

const TILE = 512;
const MAX_SIDE = 16_384; // of a canvas in Chromium and Firefox
const THUMBNAIL = 96;
const MODEL_CACHE = "onebranch-models";

/** Pictures by their number: {input, result, profile}. */
const pictures = new Map();
/** Loaded networks by the address of their file. */
const networks = new Map();
/** Controllers of what runs, by picture. */
const running = new Map();

/** @returns {Promise<any>} the input and what is known of it */
async function decode(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (isPng(bytes)) {
    const picture = await decodePng(bytes);
    const chunk = picture?.chunks.find(({ type }) => type === "iCCP");
    if (picture) return { ...picture, profile: chunk ? await profileInChunk(chunk.content) : null };
  }
  const profile = profileOf(bytes);
  const picture = await decodedByBrowser(file);
  return { ...picture, grey: false, profile, chunks: profile ? [await pngChunk(profile)] : [] };
}

/** The samples of a picture as they are stored: no colours are converted. */
async function decodedByBrowser(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new Error("it is damaged, or not a picture that this browser can read");
  }
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { width, height, data: context.getImageData(0, 0, width, height).data };
}

const actions = {
  async open({ id, file }) {
    const input = await decode(file);
    pictures.set(id, { input, result: null });
    const { width, height, data, profile } = input;
    const thumbnail = await scaled(input, 0, 0, width, height, THUMBNAIL / Math.max(width, height));
    return { width, height, bits: data instanceof Uint16Array ? 16 : 8, profile: profile !== null, thumbnail };
  },

  async enhance({ id, file, precision, workers }, report) {
    const picture = pictures.get(id), controller = new AbortController();
    running.get(id)?.abort();
    running.set(id, controller);
    try {
      const network = await networkOf(file, workers);
      controller.signal.throwIfAborted();
      picture.result = null;
      const begin = performance.now();
      const result = await network.enhance(picture.input, {
        precision,
        signal: controller.signal,
        onProgress: (share) => report({ share }),
      });
      const milliseconds = performance.now() - begin;
      picture.result = { ...result, grey: picture.input.grey };
      return { width: result.width, height: result.height, milliseconds };
    } finally {
      if (running.get(id) === controller) running.delete(id);
    }
  },

  cancel({ id }) {
    running.get(id)?.abort();
  },

  close({ id }) {
    running.get(id)?.abort();
    pictures.delete(id);
  },

  /** A square of the input or the result as a bitmap, reduced by 2 ** level. */
  async tile({ id, of, level, x, y }) {
    const picture = pictures.get(id)?.[of];
    if (!picture) return null;
    const side = TILE * 2 ** level, left = x * side, top = y * side;
    const width = Math.min(side, picture.width - left), height = Math.min(side, picture.height - top);
    return width > 0 && height > 0 ? scaled(picture, left, top, width, height, 1 / 2 ** level) : null;
  },

  async encode({ id, type, quality }) {
    const { input, result } = pictures.get(id);
    if (type === "image/png") return encodePng({ ...result, chunks: input.chunks });
    const { width, height } = result;
    if (Math.max(width, height) > MAX_SIDE)
      throw new Error(`this browser writes only PNG beyond ${MAX_SIDE} pixels a side`);
    const canvas = new OffscreenCanvas(width, height);
    canvas.getContext("2d", { willReadFrequently: true }).putImageData(new ImageData(bytesOf(result.data), width), 0, 0);
    const blob = await canvas.convertToBlob({ type, quality });
    if (blob.type !== type) throw new Error("this browser cannot write this format");
    if (!input.profile) return blob;
    const bytes = new Uint8Array(await blob.arrayBuffer());
    if (type === "image/jpeg") return withJpegProfile(bytes, input.profile);
    return withWebpProfile(bytes, input.profile, width, height);
  },
};

/** A network that is loaded, or is being loaded. */
function networkOf(file, workers) {
  if (!networks.has(file)) {
    const loading = fetchedModel(file).then((bytes) => load(bytes, { workers }));
    networks.set(file, loading);
    loading.catch(() => networks.delete(file));
  }
  return networks.get(file);
}

/** The bytes of a model file; they are kept, so that the model works offline from now on. */
async function fetchedModel(file) {
  const address = new URL(file, import.meta.url);
  const cache = await self.caches?.open(MODEL_CACHE).catch(() => undefined);
  const found = await cache?.match(address);
  if (found) return found.arrayBuffer();
  const response = await fetch(address).catch(() => null);
  if (!response?.ok) throw new Error("the model cannot be loaded; is the connection down?");
  await cache?.put(address, response.clone()).catch(() => {});
  return response.arrayBuffer();
}

/** A part of a picture as a bitmap, scaled. */
async function scaled(picture, left, top, width, height, scale) {
  const cut = new Uint8ClampedArray(4 * width * height);
  for (let row = 0; row < height; row++) {
    const at = 4 * ((top + row) * picture.width + left);
    cut.set(bytesOf(picture.data.subarray(at, at + 4 * width)), 4 * row * width);
  }
  const size = [width, height].map((side) => Math.max(1, Math.round(side * scale)));
  return createImageBitmap(new ImageData(cut, width), {
    resizeWidth: size[0],
    resizeHeight: size[1],
    resizeQuality: "high",
  });
}

/** Samples in 8 bits. */
function bytesOf(data) {
  return data instanceof Uint16Array ? Uint8ClampedArray.from(data, (value) => (value * 255) / 65535) : data;
}

self.onmessage = async ({ data: { call, action, ...parameters } }) => {
  const report = (progress) => self.postMessage({ call, progress });
  try {
    const value = await actions[action](parameters, report);
    self.postMessage({ call, value }, value instanceof ImageBitmap ? [value] : []);
  } catch (error) {
    self.postMessage({ call, error: String(error?.message ?? error), aborted: error?.name === "AbortError" });
  }
};
