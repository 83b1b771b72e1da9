// node enhance_picture.mjs MODEL PRECISION BANDS RAW WIDTH HEIGHT BITS GREY OUT: enhances raw RGBA samples on the
// calling thread in that many bands, and writes the result's raw RGBA samples.
import { readFileSync, writeFileSync } from "node:fs";
import { load } from "../src/web/onebranch.mjs";

const [file, precision, bands, raw, width, height, bits, grey, out] = process.argv.slice(2);
const engine = readFileSync(new URL("../src/web/engine.wasm", import.meta.url));
const network = await load(readFileSync(file), { engine, workers: Number(bands) });
const bytes = Uint8Array.from(readFileSync(raw));
const data = bits === "16" ? new Uint16Array(bytes.buffer) : new Uint8ClampedArray(bytes.buffer);
const shares = [];
const result = await network.enhance(
  { width: Number(width), height: Number(height), data, grey: grey === "grey" },
  { precision, onProgress: (share) => shares.push(share) },
);
if (shares.at(-1) !== 1 || shares.some((share, k) => k > 0 && share <= shares[k - 1])) process.exit(3);
writeFileSync(out, new Uint8Array(result.data.buffer));
console.log(JSON.stringify({ width: result.width, height: result.height }));
const aborted = AbortSignal.abort();
const refused = await Promise.all(
  [
    { signal: aborted },
    { scale: 7 },
    { precision: "bf16" },
  ].map((options) =>
    network.enhance({ width: Number(width), height: Number(height), data }, options).then(
      () => "accepted",
      (error) => error.name,
    ),
  ),
);
console.log(JSON.stringify(refused));
