// node replay_cases.mjs CASES: runs the recorded cases of the engine in WebAssembly, in pushes of 1, 2, 3, 1, 2
// ... rows and in one; prints {"passed": N, "failed": [NAME, ...]}. Networks in bfloat16 are left out. The
// layout of the file is that of src/engine/tests/replay.cpp.
import { readFileSync } from "node:fs";
import { Engine } from "../src/web/engine.mjs";

const TYPES = [Uint8Array, Uint16Array, Float32Array];
const COLOURS = ["own", "y of rgb", "y of grey", "rgb of grey"];

const bytes = readFileSync(process.argv[2]);
let at = 8;
const int32 = () => bytes.readInt32LE((at += 4) - 4);
const int64 = () => Number(bytes.readBigInt64LE((at += 8) - 8));
const float64 = () => bytes.readDoubleLE((at += 8) - 8);
const block = (size) => Uint8Array.from(bytes.subarray((at += size) - size, at));

function readCase() {
  const name = new TextDecoder().decode(block(int32())), description = block(int64());
  const [height, width] = [int64(), int64()];
  const [source, target, colour, planar] = [int32(), int32(), int32(), int32()];
  const tolerance = float64(), input = block(int64()), expected = block(int64());
  return { name, description, height, width, source, target, colour, planar, tolerance, input, expected };
}

// Planes -> pixels, and back.
function interleaved(samples, channels) {
  const pixels = samples.length / channels;
  return samples.map((_, k) => samples[(k % channels) * pixels + Math.floor(k / channels)]);
}

function pushed(network, given, samples, channels, step) {
  const type = TYPES[given.target], row = given.width * channels;
  const stream = network.stream({
    height: given.height, width: given.width, channels, colour: COLOURS[given.colour], type,
  });
  const parts = [];
  for (let taken = 0, count; taken < given.height; taken += count) {
    count = Math.min(given.height - taken, step());
    parts.push(...stream.push(samples.subarray(taken * row, (taken + count) * row)));
  }
  stream.close();
  return type.from(parts);
}

function passes(engine, given) {
  const type = TYPES[given.source], expectedType = TYPES[given.target];
  let samples = new type(given.input.buffer), expected = new expectedType(given.expected.buffer);
  const channels = samples.length / (given.height * given.width);
  if (given.planar) samples = interleaved(samples, channels);
  if (given.planar) expected = interleaved(expected, channels);
  const network = engine.open(given.description);
  let n = 0;
  const streamed = pushed(network, given, samples, channels, () => (n++ % 3) + 1);
  const whole = pushed(network, given, samples, channels, () => given.height);
  network.close();
  return (
    whole.length === expected.length &&
    whole.every((value, k) => value === streamed[k] && Math.abs(value - expected[k]) <= given.tolerance)
  );
}

const module = new WebAssembly.Module(readFileSync(new URL("../src/web/engine.wasm", import.meta.url)));
const engine = await Engine.create(module);
const counts = { passed: 0, failed: [] };
for (let left = int32(); left > 0; left--) {
  const given = readCase();
  if (given.name.includes(" bf16 ")) continue;
  if (passes(engine, given)) counts.passed++;
  else counts.failed.push(given.name);
}
console.log(JSON.stringify(counts));
