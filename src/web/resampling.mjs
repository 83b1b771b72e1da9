/**
 * Weights of bicubic, bilinear and nearest resizing, as `onebranch.images.resize` computes them: the same
 * numbers to the last bit.
 */

/** @typedef {"bicubic" | "bilinear" | "nearest"} ResizeKind */

/** Keys' cubic convolution kernel with a = -0.5. @param {number} x */
function cubic(x) {
  x = Math.abs(x);
  if (x <= 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

/** The triangle of bilinear interpolation. @param {number} x */
const linear = (x) => Math.max(1 - Math.abs(x), 0);

/**
 * The sum of the numbers in numpy's order: up to 7 one after the other, from 8 on by eight partial sums.
 * @param {number[]} values
 */
export function pairwiseSum(values) {
  const blocks = values.length - (values.length % 8);
  let sum = 0;
  if (blocks > 0) {
    const part = values.slice(0, 8);
    for (let k = 8; k < blocks; k++) part[k % 8] += values[k];
    sum = part[0] + part[1] + (part[2] + part[3]) + (part[4] + part[5] + (part[6] + part[7]));
  }
  for (let k = blocks; k < values.length; k++) sum += values[k];
  return sum;
}

/**
 * The taps of every output position: input positions and their weights, which sum to 1.
 * @param {number} outputs @param {number} scale @param {ResizeKind} kind
 * @returns {{positions: number[][], weights: number[][]}}
 */
function contributions(outputs, scale, kind) {
  const [shape, width] = kind === "bilinear" ? [linear, 2] : [cubic, 4];
  const stretch = Math.min(scale, 1);
  const positions = [], weights = [];
  for (let output = 0; output < outputs; output++) {
    const centre = (output + 0.5) / scale - 0.5;
    const first = Math.floor(centre - width / stretch / 2);
    const taps = Array.from({ length: Math.ceil(width / stretch) + 2 }, (_, k) => first + k);
    const values = taps.map((position) => shape((centre - position) * stretch));
    const sum = pairwiseSum(values);
    positions.push(taps);
    weights.push(values.map((value) => value / sum));
  }
  return { positions, weights };
}

/** The weights at every position from `first` to `last`, one line for each output. */
function spread({ positions, weights }, first, last) {
  return positions.map((taps, output) => {
    const line = new Array(last - first + 1).fill(0);
    taps.forEach((position, k) => {
      if (weights[output][k] !== 0) line[position - first] = weights[output][k];
    });
    return line;
  });
}

/** The positions whose weight is not 0. */
const used = ({ positions, weights }) =>
  positions.flatMap((taps, output) => taps.filter((_, k) => weights[output][k] !== 0));

/** The weights of a line times the sum of another: of one axis where a two-dimensional kernel is summed. */
const summed = (line, other) => line.map((weight) => pairwiseSum(other.map((value) => weight * value)));

/**
 * The weights of resizing along one axis by a network's scale: `phases` lines of `taps` weights. Output p of
 * input position x is the sum of weights[p][k] * input[x * stride + k - before].
 * @param {"upscale" | "downscale" | "denoise"} task @param {number} scale @param {ResizeKind} kind
 * @returns {{phases: number, stride: number, taps: number, before: number, weights: number[]}}
 */
export function resampler(task, scale, kind) {
  if (task === "denoise") return { phases: 1, stride: 1, taps: 1, before: 0, weights: [1] };
  const lines = task === "upscale" ? enlargingLines(scale, kind) : [reducingLine(scale, kind)];
  const taps = lines[0].length;
  if (task === "upscale")
    return { phases: scale, stride: 1, taps, before: Math.floor(taps / 2), weights: lines.flat() };
  return { phases: 1, stride: scale, taps, before: Math.floor((taps - scale) / 2), weights: lines[0] };
}

function enlargingLines(scale, kind) {
  if (kind === "nearest") return Array.from({ length: scale }, () => [1]);
  const taps = contributions(scale, scale, kind);
  const radius = Math.max(...used(taps).map(Math.abs));
  const lines = spread(taps, -radius, radius);
  return lines.map((line) => summed(line, lines[0]));
}

function reducingLine(scale, kind) {
  if (kind === "nearest")
    return Array.from({ length: scale }, (_, k) => (k === Math.floor(scale / 2) ? 1 : 0));
  const taps = contributions(1, 1 / scale, kind);
  const held = used(taps);
  const line = spread(taps, Math.min(...held), Math.max(...held))[0];
  return summed(line, line);
}
