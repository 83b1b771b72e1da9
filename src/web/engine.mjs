/** The engine in WebAssembly: networks and streams of rows. No workers here, and nothing asynchronous. */

import { OnebranchError } from "./model.mjs";

/** Sample types by their arrays: enum ob_type of src/engine/onebranch_engine.h. */
const SAMPLE_TYPES = new Map([
  [Uint8Array, 0],
  [Uint8ClampedArray, 0],
  [Uint16Array, 1],
  [Float32Array, 2],
]);

/** Conversions between the picture's samples and the network's channels: enum ob_colour. */
const COLOURS = { own: 0, "y of rgb": 1, "y of grey": 2, "rgb of grey": 3 };

const MESSAGE_BYTES = 512;
const FORMAT_BYTES = 32;

/** One instance of the module, with its own memory. */
export class Engine {
  /** @param {WebAssembly.Instance} instance */
  constructor(instance) {
    this.exports = /** @type {any} */ (instance.exports);
    this.exports._initialize();
    this.message = this.allocate(MESSAGE_BYTES);
    this.format = this.allocate(FORMAT_BYTES);
  }

  /** @param {WebAssembly.Module} module */
  static async create(module) {
    return new Engine(await WebAssembly.instantiate(module, {}));
  }

  /** Opens a network from its description. @param {Uint8Array} description */
  open(description) {
    const at = this.allocate(description.length);
    this.memory().set(description, at);
    const network = this.exports.ob_open(at, description.length, 0, this.message, MESSAGE_BYTES);
    this.exports.free(at);
    if (!network) throw new OnebranchError(`the engine cannot take this network: ${this.text()}`);
    return new EngineNetwork(this, network);
  }

  /** The memory; it moves whenever something is allocated. */
  memory() {
    return new Uint8Array(this.exports.memory.buffer);
  }

  /** Address of `size` new bytes. @param {number} size */
  allocate(size) {
    const at = this.exports.malloc(size || 1) >>> 0;
    if (!at) throw new OnebranchError("there is not enough memory for a picture of this size");
    return at;
  }

  /** The error that the last call has written. */
  text() {
    const bytes = this.memory().subarray(this.message, this.message + MESSAGE_BYTES);
    return new TextDecoder().decode(bytes.slice(0, bytes.indexOf(0)));
  }

  /** Writes a struct ob_format and returns its address. */
  writeFormat(height, width, source, target, colour) {
    const view = new DataView(this.exports.memory.buffer, this.format, FORMAT_BYTES);
    view.setBigInt64(0, BigInt(height), true);
    view.setBigInt64(8, BigInt(width), true);
    [source, target, COLOURS[colour], 0].forEach((value, k) => view.setInt32(16 + 4 * k, value, true));
    return this.format;
  }
}

/** A network that an engine has opened. */
class EngineNetwork {
  constructor(engine, network) {
    this.engine = engine;
    this.network = network;
  }

  close() {
    this.engine.exports.ob_close(this.network);
  }

  /** Pixels of the result along each side. @returns {{height: number, width: number}} */
  outputSize(height, width) {
    const { ob_output_height: rows, ob_output_width: columns } = this.engine.exports;
    return {
      height: Number(rows(this.network, BigInt(height))),
      width: Number(columns(this.network, BigInt(width))),
    };
  }

  /**
   * Begins a picture that is passed row by row from the top.
   * @param {{height: number, width: number, channels: number, colour: keyof COLOURS,
   *          type: new (size: any) => any}} picture
   */
  stream(picture) {
    return new Stream(this, picture);
  }
}

/** A picture passed row by row; source and result have the same sample type. */
class Stream {
  constructor(network, { height, width, channels, colour, type }) {
    const { engine } = network, { exports } = engine, sample = SAMPLE_TYPES.get(type);
    if (sample === undefined) throw new OnebranchError("samples are Uint8, Uint16 or Float32 arrays");
    this.engine = engine;
    this.type = type;
    this.rowSamples = width * channels;
    this.outputSamples = network.outputSize(height, width).width * channels;
    const format = engine.writeFormat(height, width, sample, sample, colour);
    this.stream = exports.ob_stream_open(network.network, format, 1, engine.message, MESSAGE_BYTES);
    if (!this.stream) throw new OnebranchError(`the engine stopped: ${engine.text()}`);
    this.taken = this.given = 0;
  }

  /**
   * Passes more rows and returns the rows of the result that they make ready, in a new array.
   * @param {any} rows samples of whole rows
   */
  push(rows) {
    const { engine, type } = this, { exports } = engine, bytes = type.BYTES_PER_ELEMENT;
    const count = rows.length / this.rowSamples;
    const ready = Number(exports.ob_stream_ready(this.stream, BigInt(this.taken + count)));
    const samples = (ready - this.given) * this.outputSamples;
    const input = engine.allocate(rows.byteLength);
    let output;
    try {
      output = engine.allocate(samples * bytes);
      engine.memory().set(new Uint8Array(rows.buffer, rows.byteOffset, rows.byteLength), input);
      const done = exports.ob_stream_push(
        this.stream, input, BigInt(count), 0n, output, 0n, 0, engine.message, MESSAGE_BYTES,
      );
      if (!done) throw new OnebranchError(`the engine stopped: ${engine.text()}`);
      this.taken += count;
      this.given = ready;
      const result = new type(samples);
      new Uint8Array(result.buffer).set(engine.memory().subarray(output, output + samples * bytes));
      return result;
    } finally {
      exports.free(input);
      if (output !== undefined) exports.free(output);
    }
  }

  close() {
    this.engine.exports.ob_stream_close(this.stream);
  }
}
