/**
 * Enhances pictures by a merged onebranch network, in WebAssembly, on plain workers.
 *
 *     import { load } from "./onebranch.mjs";
 *     const network = await load(await (await fetch("photo-x2.safetensors")).arrayBuffer());
 *     const result = await network.enhance(imageData, { onProgress: console.log });
 *     network.close();
 *
 * Nothing is sent anywhere, and no SharedArrayBuffer is needed, so no special headers either.
 */

import { enhancedRows } from "./bands.mjs";
import { Engine } from "./engine.mjs";
import { describe, describeInterpolation, haloRows, OnebranchError, readModel } from "./model.mjs";

export { OnebranchError, readModel };

/** @typedef {import("./model.mjs").Precision} Precision */
/**
 * A picture: an ImageData, or anything with four samples a pixel (RGBA, not premultiplied). grey:
 * the three colours are equal, and only the first is read.
 * @typedef {{width: number, height: number, data: Uint8ClampedArray | Uint8Array | Uint16Array,
 *            grey?: boolean}} Picture
 */
/**
 * @typedef {object} EnhanceOptions
 * @property {number} [scale] the network's own, for a check; another one is an error
 * @property {Precision} [precision] "int8" if the network is quantized, else "fp32"
 * @property {(share: number) => void} [onProgress] called with the finished share, 0 to 1
 * @property {AbortSignal} [signal] rejects the promise with its reason
 */

/** Rows of the picture that each worker has at least: with fewer, most of the work would be the halo. */
const MIN_BAND_ROWS = 32;
const MAX_WORKERS = 8;

/** The engine's conversion, by the network's colour and the picture's. */
const COLOURS = {
  y: { rgb: "y of rgb", grey: "y of grey" },
  rgb: { rgb: "own", grey: "rgb of grey" },
};

const MAX_SAMPLES = 2 ** 32 - 4;

/** Neighbours that interpolation reads in the result's pixels (`INTERPOLATION_RADIUS` in Python). */
const INTERPOLATION_RADIUS = 2;

/**
 * A network from the bytes of a model file.
 * @param {ArrayBuffer | Uint8Array} modelBytes
 * @param {{engine?: WebAssembly.Module | BufferSource | URL | string, workers?: number}} [options]
 *   engine: the module, its bytes or its address; by default engine.wasm beside this file. workers: how many
 *   at most; 0 computes on the calling thread; by default one for each core, at most 8.
 */
export async function load(modelBytes, { engine, workers } = {}) {
  const model = readModel(modelBytes);
  describe(model, "fp32");
  return new Network(model, await compiled(engine), workers ?? defaultWorkers());
}

function defaultWorkers() {
  return Math.min(globalThis.navigator?.hardwareConcurrency ?? 2, MAX_WORKERS);
}

/** @returns {Promise<WebAssembly.Module>} */
async function compiled(engine = new URL("./engine.wasm", import.meta.url)) {
  if (engine instanceof WebAssembly.Module) return engine;
  if (typeof engine !== "string" && !(engine instanceof URL)) return WebAssembly.compile(engine);
  const response = await fetch(engine);
  if (!response.ok) throw new OnebranchError(`the engine cannot be loaded: status ${response.status}`);
  return WebAssembly.compile(await response.arrayBuffer());
}

/** A loaded network. */
export class Network {
  /** @param {import("./model.mjs").Model} model */
  constructor(model, module, workers) {
    this.model = model;
    this.module = module;
    this.workers = workers;
    /** @type {Map<Precision, Crew>} */
    this.crews = new Map();
  }

  /** The precision that is used if none is named. @returns {Precision} */
  get precision() {
    return this.model.quantization ? "int8" : "fp32";
  }

  /** Size of the result. @param {number} width @param {number} height */
  outputSize(width, height) {
    const { task, scale } = this.model.spec;
    const side = (pixels) => (task === "downscale" ? Math.ceil(pixels / scale) : pixels * scale);
    return { width: side(width), height: side(height) };
  }

  /**
   * The enhanced picture, with samples of the same type.
   * @param {Picture} picture
   * @param {EnhanceOptions} [options]
   * @returns {Promise<Picture>}
   */
  async enhance(picture, { scale, precision = this.precision, onProgress = () => {}, signal } = {}) {
    signal?.throwIfAborted();
    this.check(picture, scale);
    const size = this.outputSize(picture.width, picture.height);
    const result = { ...size, data: new picture.data.constructor(4 * size.width * size.height) };
    const bands = this.bands(picture);
    let done = 0;
    const place = (band, at, rows) => {
      result.data.set(rows, 4 * band.first * size.width + at);
      done += rows.length;
      onProgress(done / result.data.length);
    };
    if (!this.crews.has(precision)) this.crews.set(precision, new Crew(this, precision));
    await this.crews.get(precision).run(bands, (band) => this.cutOut(picture, band), place, signal);
    return result;
  }

  /** Throws unless the picture fits. */
  check({ width, height, data }, scale) {
    const own = this.model.spec.scale;
    if (scale !== undefined && scale !== own && scale !== 1 / own)
      throw new OnebranchError(`this network's scale is ${own}, not ${scale}; load another model`);
    if (!(width >= 1 && height >= 1) || data.length !== 4 * width * height)
      throw new OnebranchError("a picture has four samples a pixel, at least one row and one column");
    const size = this.outputSize(width, height);
    if (4 * size.width * size.height > MAX_SAMPLES)
      throw new OnebranchError(`the result of ${size.width}x${size.height} pixels is too large for a browser`);
  }

  /** The parts of a picture, one for each worker. @param {Picture} picture */
  bands({ height }) {
    const { task, scale } = this.model.spec, unit = task === "downscale" ? scale : 1;
    const count = Math.max(1, Math.min(this.workers, Math.floor(height / MIN_BAND_ROWS)));
    const each = Math.ceil(height / count / unit) * unit;
    const bands = [];
    for (let begin = 0; begin < height; begin += each) {
      const end = Math.min(height, begin + each);
      bands.push({ begin, end, ...this.resultRows(begin, end) });
    }
    return bands;
  }

  /** The rows of the result that come from these rows of the picture. */
  resultRows(begin, end) {
    const { task, scale } = this.model.spec;
    if (task === "downscale") return { first: begin / scale, rows: Math.ceil((end - begin) / scale) };
    return { first: begin * scale, rows: (end - begin) * scale };
  }

  /** A band with its halo, as a worker takes it. @returns {import("./bands.mjs").Band} */
  cutOut({ data, width, height, grey = false }, { begin, end, first, rows }) {
    const { spec } = this.model, unit = spec.task === "downscale" ? spec.scale : 1;
    const fillRadius = receptiveRadius(spec);
    const halo = Math.ceil((haloRows(spec) + fillRadius) / unit) * unit;
    const top = Math.max(0, begin - halo), bottom = Math.min(height, end + halo);
    return {
      data: data.slice(4 * top * width, 4 * bottom * width),
      width,
      rows: bottom - top,
      skip: first - this.resultRows(top, top).first,
      keep: rows,
      colour: COLOURS[spec.colour][grey ? "grey" : "rgb"],
      fillRadius,
    };
  }

  /** Ends the workers. */
  close() {
    for (const crew of this.crews.values()) crew.close();
    this.crews.clear();
  }
}

/** How far transparent pixels take colours from, as `receptive_radius` of one engine stage in Python. */
export function receptiveRadius(spec) {
  const reducing = spec.task === "downscale", cells = reducing ? spec.scale ** 2 : 1;
  const network = networkHalo(spec), multiple = reducing ? spec.scale : 1;
  const interpolation = spec.scale === 1 ? 0 : INTERPOLATION_RADIUS * (reducing ? spec.scale : 1);
  const radius = Math.max(network, interpolation) + multiple;
  return Math.ceil((radius + INTERPOLATION_RADIUS) / cells) * cells;
}

/** The halo of the network itself, in pixels of the picture. */
function networkHalo(spec) {
  let radius = 0;
  for (const block of [spec.head, ...spec.blocks, spec.tail]) {
    const [rows, columns] = block.branches[0].split(" ")[0].split("x").map(Number);
    radius += Math.floor(Math.max(rows, columns) / 2);
  }
  if (spec.downsampling === "convolution") radius += 1;
  if (spec.downsampling === "unshuffle") radius += spec.scale;
  return radius;
}

/** The workers of a network in one precision, or the calling thread. */
class Crew {
  /** @param {Network} network @param {Precision} precision */
  constructor({ model, module, workers }, precision) {
    this.opening = { module, description: describe(model, precision), alpha: describeInterpolation(model.spec) };
    this.here = workers === 0 || typeof Worker === "undefined";
    /** @type {Worker[]} */
    this.workers = [];
    this.task = 0;
  }

  async run(bands, cutOut, place, signal) {
    if (this.here) return this.runHere(bands, cutOut, place, signal);
    const abort = new Promise((_, reject) => {
      signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
    });
    const parts = bands.map((band, index) => this.runThere(index, band, cutOut(band), place));
    try {
      await Promise.race([Promise.all(parts), abort]);
    } catch (error) {
      this.close(); // the others would go on computing
      throw error;
    }
  }

  /** One band on the worker of that index. */
  runThere(index, band, content, place) {
    const worker = (this.workers[index] ??= this.hired()), task = this.task++;
    return new Promise((resolve, reject) => {
      worker.onerror = (event) => reject(new OnebranchError(event.message ?? "a worker cannot start"));
      worker.onmessage = ({ data }) => {
        if (data.task !== task) return;
        if (data.error !== undefined) reject(new OnebranchError(data.error));
        else if (data.done) resolve(undefined);
        else place(band, data.at, data.rows);
      };
      worker.postMessage({ task, band: content }, [content.data.buffer]);
    });
  }

  hired() {
    const worker = new Worker(new URL("./worker.mjs", import.meta.url), { type: "module" });
    worker.postMessage({ open: this.opening });
    return worker;
  }

  async runHere(bands, cutOut, place, signal) {
    const engine = (this.engine ??= await Engine.create(this.opening.module));
    const pixels = (this.pixels ??= engine.open(this.opening.description));
    const networks = { pixels, alpha: () => engine.open(this.opening.alpha) };
    for (const band of bands) {
      let at = 0;
      for (const rows of enhancedRows(networks, cutOut(band))) {
        place(band, at, rows);
        at += rows.length;
        await new Promise((resolve) => setTimeout(resolve, 0));
        signal?.throwIfAborted();
      }
    }
  }

  close() {
    for (const worker of this.workers) worker?.terminate();
    this.workers = [];
  }
}
