/**
 * The worker that holds the pictures: it decodes them, has them enhanced, cuts out tiles for display, and
 * encodes results. The page itself only draws.
 */

import { load } from "./onebranch.mjs";
import { decodePng, encodePng, isOpaque, isPng } from "./png.mjs";
import * as profiles from "./profiles.mjs";

const TILE = 512;
const MAX_SIDE = 16_384; // of a canvas in Chromium and Firefox
const MAX_CANVAS_PIXELS = 2 ** 28;
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
  const bytes = new Uint8Array(await file.arrayBuffer().catch(() => {
    throw new Error("this cannot be read. Is it a folder, or was it moved?");
  }));
  if (!bytes.length) throw new Error("the file is empty");
  if (isPng(bytes)) {
    const picture = await decodePng(bytes), chunk = picture.chunks.find(({ type }) => type === "iCCP");
    return { ...picture, profile: chunk ? await profiles.profileInChunk(chunk.content).catch(() => null) : null };
  }
  const own = profiles.profileOf(bytes), profile = own && profiles.isForRgb(own) ? own : null;
  const keepsColours = profile !== null || (own === null && profiles.isRead(bytes));
  const picture = await decodedByBrowser(file, keepsColours).catch((error) => {
    throw error instanceof DOMException ? new Error(whyUnreadable(bytes)) : error;
  });
  return { ...picture, grey: false, profile, chunks: profile ? [await profiles.pngChunk(profile)] : [] };
}

/** Why the browser does not decode a file. @param {Uint8Array} bytes */
function whyUnreadable(bytes) {
  const head = String.fromCharCode(...bytes.subarray(0, 12));
  if (/^....ftyp(he|mif1|msf1)/s.test(head))
    return "this browser cannot open HEIC pictures, as iPhones take them. Save it as JPEG first.";
  if (/^(II\*\0|MM\0\*)/.test(head)) return "this browser cannot open TIFF pictures. Save it as PNG first.";
  return "this is damaged, or not a picture that this browser can open";
}

/** The samples of a picture: as they are stored, or converted to sRGB where the result could not say what they are. */
async function decodedByBrowser(file, keepsColours) {
  const colorSpaceConversion = keepsColours ? "none" : "default";
  const bitmap = await createImageBitmap(file, { colorSpaceConversion, premultiplyAlpha: "none" });
  const { width, height } = bitmap;
  if (width * height > MAX_CANVAS_PIXELS) throw new Error(`its ${width} × ${height} pixels are too many for a browser`);
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { width, height, data: context.getImageData(0, 0, width, height).data };
}

const actions = {
  async open({ id, file }) {
    const input = await decode(file), { width, height } = input;
    input.space = profiles.colourSpaceOf(input.profile);
    pictures.set(id, { input, result: null });
    const thumbnail = await scaled(input, 0, 0, width, height, THUMBNAIL / Math.max(width, height));
    return { width, height, opaque: isOpaque(input.data), thumbnail };
  },

  async enhance({ id, file, precision, workers }, report) {
    const picture = pictures.get(id), controller = new AbortController();
    running.get(id)?.abort();
    running.set(id, controller);
    try {
      const network = await networkOf(file, workers);
      controller.signal.throwIfAborted();
      report({ share: 0 });
      picture.result = null;
      const begin = performance.now();
      const result = await network.enhance(picture.input, {
        precision,
        signal: controller.signal,
        onProgress: (share) => report({ share }),
      });
      const milliseconds = performance.now() - begin;
      picture.result = { ...result, grey: picture.input.grey, space: picture.input.space };
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
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.putImageData(new ImageData(bytesOf(result.data), width), 0, 0);
    if (type === "image/jpeg") paintBehind(context, "white", width, height);
    const blob = await canvas.convertToBlob({ type, quality });
    if (blob.type !== type) throw new Error("this browser cannot write this format");
    if (!input.profile || !profiles.isForRgb(input.profile)) return blob;
    const bytes = new Uint8Array(await blob.arrayBuffer());
    if (type === "image/jpeg") return profiles.withJpegProfile(bytes, input.profile);
    return profiles.withWebpProfile(bytes, input.profile, width, height);
  },
};

/** Fills what is transparent. */
function paintBehind(context, colour, width, height) {
  context.globalCompositeOperation = "destination-over";
  context.fillStyle = colour;
  context.fillRect(0, 0, width, height);
}

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
  if (!response?.ok) throw new Error("the model cannot be downloaded. Is the connection down?");
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
  return createImageBitmap(new ImageData(cut, width, height, { colorSpace: picture.space }), {
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
    const tooLarge = error instanceof RangeError && "this needs more memory than the browser has. Choose a smaller size.";
    const text = tooLarge || String(error?.message ?? error);
    self.postMessage({ call, error: text, aborted: error?.name === "AbortError" });
  }
};
