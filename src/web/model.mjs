/**
 * Reads a model file (`.safetensors`) and lowers its merged network to the bytes that the engine takes, as
 * `onebranch.runtime.engine_network.describe` does: the same bytes. Their layout is that of
 * src/engine/description.cpp.
 */

import { resampler } from "./resampling.mjs";

/** @typedef {"fp32" | "int8"} Precision */
/** @typedef {{branches: string[], width: number, activation?: string}} Block */
/**
 * @typedef {object} Spec
 * @property {"upscale" | "downscale" | "denoise"} task
 * @property {"y" | "rgb"} colour
 * @property {number} scale
 * @property {Block} head
 * @property {Block[]} blocks
 * @property {Block} tail
 * @property {{source: number, target: number, join?: string}[]} [skips]
 * @property {"none" | "nearest" | "bicubic"} [residual]
 * @property {string} [downsampling]
 */
/** @typedef {{shape: number[], values: Float32Array}} Tensor */
/** @typedef {{spec: Spec, tensors: Map<string, Tensor>, quantization: any | null}} Model */

/** A model file or a picture that cannot be used; the message is one line for the user. */
export class OnebranchError extends Error {
  name = "OnebranchError";
}

const MAX_HEADER_BYTES = 100e6;
const TASKS = { upscale: 0, downscale: 1, denoise: 2 };
const PRECISIONS = { fp32: 0, int8: 2 };
const SLOPES = { leaky_relu: 0.1, relu: 0, none: 1 };
const MAX_WEIGHT_LEVEL = 127;

/**
 * The spec, tensors and quantization record of a model file.
 * @param {ArrayBuffer | Uint8Array} bytes
 * @returns {Model}
 */
export function readModel(bytes) {
  const content = bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes);
  const header = readHeader(content);
  const metadata = header.__metadata__ ?? {};
  if (metadata.onebranch !== "1" || !metadata.spec)
    throw new OnebranchError("this file is not a model of onebranch, or of another version of it");
  const tensors = new Map();
  for (const [name, entry] of Object.entries(header))
    if (name !== "__metadata__") tensors.set(name, readTensor(content, name, entry));
  const quantization = metadata.quantization ? JSON.parse(metadata.quantization) : null;
  const model = { spec: JSON.parse(metadata.spec), tensors, quantization };
  checkNetwork(model.spec);
  return model;
}

/** The JSON header of a safetensors file, with `dataStart` added to every offset. */
function readHeader(content) {
  const view = new DataView(content.buffer, content.byteOffset, content.byteLength);
  const size = content.length < 8 ? -1 : Number(view.getBigUint64(0, true));
  if (size < 2 || size > MAX_HEADER_BYTES || size > content.length - 8)
    throw new OnebranchError("this file is not a complete safetensors file");
  let header;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(content.subarray(8, 8 + size)));
  } catch {
    throw new OnebranchError("this file is not a complete safetensors file: its header is damaged");
  }
  for (const [name, entry] of Object.entries(header))
    if (name !== "__metadata__") entry.data_offsets = entry.data_offsets?.map((at) => at + 8 + size);
  return header;
}

/** @returns {Tensor} */
function readTensor(content, name, { dtype, shape, data_offsets: offsets }) {
  const count = Array.isArray(shape) ? shape.reduce((a, b) => a * b, 1) : NaN;
  if (dtype !== "F32" || !offsets || offsets[1] > content.length || offsets[1] - offsets[0] !== 4 * count)
    throw new OnebranchError(`tensor '${name}' is damaged or not float32`);
  const values = new Float32Array(count);
  new Uint8Array(values.buffer).set(content.subarray(offsets[0], offsets[1]));
  if (!values.every(Number.isFinite))
    throw new OnebranchError(`tensor '${name}' holds NaN or infinite values`);
  return { shape, values };
}

/** Throws unless the engine runs this network. */
function checkNetwork(spec) {
  if (!(spec.task in TASKS)) throw new OnebranchError(`this network's task '${spec.task}' is not known`);
  for (const skip of spec.skips ?? [])
    if ((skip.join ?? "add") !== "add") throw new OnebranchError("it has skips that concatenate");
  for (const [name, block] of layers(spec)) {
    const merged = block.branches.length === 1 && /^\d+x\d+( nobias)?$/.test(block.branches[0]);
    if (!merged)
      throw new OnebranchError(`${name} is not one convolution (onebranch merge makes it one)`);
    if (block.activation !== undefined && block.activation !== "prelu" && !(block.activation in SLOPES))
      throw new OnebranchError(`${name} has the activation '${block.activation}'`);
  }
}

/** Name and spec of head, every block and tail. @param {Spec} spec @returns {[string, Block][]} */
export function layers(spec) {
  return [
    ["head", spec.head],
    ...spec.blocks.map((block, index) => /** @type {[string, Block]} */ ([`blocks.${index}`, block])),
    ["tail", spec.tail],
  ];
}

/** Rows of the picture that a row of the result depends on, above and below; an upper bound. */
export function haloRows(spec) {
  let radius = 0;
  for (const [, block] of layers(spec)) radius += Math.floor(Number(block.branches[0].split("x")[0]) / 2);
  const reducing = spec.task === "downscale" ? 2 * spec.scale : 0;
  return Math.max(radius + reducing, 4 * spec.scale);
}

/** Bytes that are appended one after the other, little-endian. */
class Writer {
  /** @type {Uint8Array[]} */
  parts = [];

  integers(...values) {
    this.parts.push(new Uint8Array(Int32Array.from(values).buffer));
  }
  floats(values) {
    this.parts.push(new Uint8Array(Float32Array.from(values).buffer));
  }
  bytes(values) {
    this.parts.push(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }
  /** @returns {Uint8Array} */
  joined() {
    const all = new Uint8Array(this.parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of this.parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }
}

const SIGNATURE = Uint8Array.of(0x4f, 0x42, 0x4e, 0x45, 0x54, 0, 0, 1); // OBNET\0\0\1

/**
 * The network as bytes for the engine.
 * @param {Model} model @param {Precision} precision @param {"bicubic" | "bilinear"} chroma
 */
export function describe(model, precision = "fp32", chroma = "bicubic") {
  const { spec } = model;
  if (precision === "int8" && !model.quantization)
    throw new OnebranchError("this network is not quantized (onebranch quantize does that)");
  if (!(precision in PRECISIONS))
    throw new OnebranchError(`the precision is fp32 or int8, not '${precision}'`);
  const writer = new Writer(), residual = spec.residual ?? "none", skips = spec.skips ?? [];
  writer.bytes(SIGNATURE);
  writer.integers(TASKS[spec.task], PRECISIONS[precision], spec.colour === "y" ? 1 : 3, spec.scale);
  writer.integers(layers(spec).length, skips.length, residual === "none" ? 0 : 1);
  if (residual !== "none") writeResampler(writer, spec, residual);
  writeResampler(writer, spec, chroma);
  writeReduction(writer, model);
  if (precision === "int8") writeQuantizedLayers(writer, model);
  else writeLayers(writer, model);
  for (const skip of skips) writer.integers(skip.source, skip.target);
  return writer.joined();
}

/**
 * A network of one channel that only interpolates, by the scale of `spec`: for alpha.
 * @param {Spec} spec @param {"bicubic" | "bilinear"} kind
 */
export function describeInterpolation(spec, kind = "bicubic") {
  const writer = new Writer();
  writer.bytes(SIGNATURE);
  writer.integers(TASKS[spec.task], PRECISIONS.fp32, 1, spec.scale, 2, 0, 1);
  writeResampler(writer, spec, kind);
  writeResampler(writer, spec, kind);
  writer.integers(spec.task === "downscale" ? 1 : 0);
  for (const outputs of [1, spec.task === "upscale" ? spec.scale ** 2 : 1]) {
    writer.integers(1, outputs, 1, 1, 0);
    writer.floats(new Array(2 * outputs).fill(0));
    writer.floats(new Array(outputs).fill(1));
  }
  return writer.joined();
}

function writeResampler(writer, spec, kind) {
  const { phases, stride, taps, before, weights } = resampler(spec.task, spec.scale, kind);
  writer.integers(phases, stride, taps, before);
  writer.floats(weights);
}

function writeReduction(writer, model) {
  const { spec } = model;
  if (spec.task !== "downscale") return writer.integers(0);
  if (spec.downsampling === "average") return writer.integers(1);
  const { shape, values } = tensor(model, "resample.weight");
  const pad = spec.downsampling === "unshuffle" ? spec.scale : 1;
  const factor = spec.downsampling === "unshuffle" ? spec.scale : 1;
  const [outputs, inputs, size] = [shape[0], shape[1] / factor ** 2, shape[2] * factor];
  writer.integers(2, inputs, outputs, size, pad);
  writer.floats(factor === 1 ? values : unshuffled(values, shape, factor));
  writer.floats(tensor(model, "resample.bias").values);
}

/** A convolution (O, C s s, K, L) after a pixel unshuffle, as one of stride s: (O, C, s K, s L). */
function unshuffled(values, [outputs, inputs, rows, columns], factor) {
  const channels = inputs / factor ** 2, result = new Float32Array(values.length);
  let at = 0;
  for (let o = 0; o < outputs; o++)
    for (let c = 0; c < channels; c++)
      for (let k = 0; k < rows * factor; k++)
        for (let l = 0; l < columns * factor; l++) {
          const within = (k % factor) * factor + (l % factor);
          const i = c * factor ** 2 + within, row = Math.floor(k / factor), column = Math.floor(l / factor);
          result[at++] = values[((o * inputs + i) * rows + row) * columns + column];
        }
  return result;
}

/** @returns {Tensor} */
function tensor(model, name) {
  const found = model.tensors.get(name);
  if (!found) throw new OnebranchError(`tensor '${name}' is missing`);
  return found;
}

/** Weight, bias and slopes of one layer. */
function floatsOf(model, name, block) {
  const weight = tensor(model, `${name}.branches.0.0.weight`);
  if (weight.shape.length !== 4 || weight.shape[0] !== block.width)
    throw new OnebranchError(`tensor '${name}.branches.0.0.weight' does not fit the spec`);
  const bias = model.tensors.get(`${name}.branches.0.0.bias`)?.values ?? new Float32Array(block.width);
  const activation = block.activation ?? "prelu";
  const slopes =
    activation === "prelu"
      ? tensor(model, `${name}.activation.weight`).values
      : new Float32Array(block.width).fill(SLOPES[activation]);
  return { weight, bias, slopes };
}

function writeShape(writer, [outputs, inputs, rows, columns], integer) {
  writer.integers(inputs, outputs, rows, columns, integer);
}

function writeLayers(writer, model) {
  for (const [name, block] of layers(model.spec)) {
    const { weight, bias, slopes } = floatsOf(model, name, block);
    writeShape(writer, weight.shape, 0);
    for (const values of [weight.values, bias, slopes]) writer.floats(values);
  }
}

function writeQuantizedLayers(writer, model) {
  const record = model.quantization.layers, skips = model.spec.skips ?? [];
  layers(model.spec).forEach(([name, block], index) => {
    const { weight, bias, slopes } = floatsOf(model, name, block);
    const layer = record[index], hasSkips = skips.some((skip) => skip.target === index);
    if (index === 0) {
      writeShape(writer, weight.shape, 0);
      writer.floats(weight.values);
      writer.floats(bias);
    } else {
      writeIntegerLayer(writer, weight, bias, layer, record[index - 1].output, hasSkips);
    }
    writer.floats(slopes);
    writeQuantParams(writer, layer.output, index === 0 || hasSkips);
    writeQuantParams(writer, layer.raw, true);
  });
}

/** A layer in integers, as `onebranch.algebra.integer.integer_layer` defines it. */
function writeIntegerLayer(writer, weight, bias, layer, input, hasSkips) {
  const scales = layer.weight_scales, unit = hasSkips || !layer.output ? 1 : layer.output.scale;
  const each = weight.values.length / weight.shape[0];
  const levels = Int8Array.from(weight.values, (value, k) => {
    const level = roundHalfEven(value / scales[Math.floor(k / each)]);
    return Math.min(Math.max(level, -MAX_WEIGHT_LEVEL), MAX_WEIGHT_LEVEL);
  });
  const starts = scales.map((scale, o) => {
    let sum = 0;
    for (let k = 0; k < each; k++) sum += levels[o * each + k];
    return roundHalfEven(bias[o] / (input.scale * scale)) - input.zero_point * sum;
  });
  writeShape(writer, weight.shape, 1);
  writer.bytes(levels);
  writer.integers(...starts);
  writer.floats(scales.map((scale) => (input.scale * scale) / unit));
}

/** The nearest integer; of two as near the even one. @param {number} value */
export function roundHalfEven(value) {
  const rounded = Math.round(value);
  return Math.abs(value % 1) === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

/** Scale, inverse and zero point. inRealUnits: values are still to be divided by the scale. */
function writeQuantParams(writer, params, inRealUnits) {
  const { scale, zero_point: zeroPoint } = params ?? { scale: 1, zero_point: 0 };
  writer.floats([scale, inRealUnits ? 1 / scale : 1]);
  writer.integers(zeroPoint);
}
