/** The ICC profile of JPEG and WebP files: read, and put into files that the browser has written. */

const ICC_MARK = "ICC_PROFILE\0";
const MAX_SEGMENT_BYTES = 65_000;

const text = (bytes, at, size) => String.fromCharCode(...bytes.subarray(at, at + size));

const isJpeg = (bytes) => bytes[0] === 0xff && bytes[1] === 0xd8;
const isWebp = (bytes) => text(bytes, 0, 4) === "RIFF" && text(bytes, 8, 4) === "WEBP";

/** True if the file is of a kind whose profile is read. @param {Uint8Array} bytes */
export const isRead = (bytes) => isJpeg(bytes) || isWebp(bytes);

/** The profile of a JPEG or WebP file, or null. @param {Uint8Array} bytes @returns {Uint8Array | null} */
export function profileOf(bytes) {
  if (isJpeg(bytes)) return jpegProfile(bytes);
  if (isWebp(bytes)) return webpProfile(bytes);
  return null;
}

/** True if a profile is for pictures in RGB, such as those that the page writes. @param {Uint8Array} profile */
export const isForRgb = (profile) => text(profile, 16, 4) === "RGB ";

/** XYZ of the red and the green of Display P3, adapted to D50. */
const P3_PRIMARIES = { rXYZ: [0.5151, 0.2412, -0.0011], gXYZ: [0.292, 0.6922, 0.0419] };
const PRIMARY_TOLERANCE = 0.002;

/** The name that browsers have for a profile's colours, for display. @param {Uint8Array | null} profile */
export function colourSpaceOf(profile) {
  const isP3 = profile && Object.entries(P3_PRIMARIES).every(([tag, xyz]) => hasPrimary(profile, tag, xyz));
  return isP3 ? "display-p3" : "srgb";
}

function hasPrimary(profile, tag, xyz) {
  const view = new DataView(profile.buffer, profile.byteOffset, profile.byteLength);
  const entry = (k) => 132 + 12 * k;
  for (let k = 0; entry(k + 1) <= profile.length && k < view.getUint32(128); k++) {
    const at = view.getUint32(entry(k) + 4) + 8;
    if (text(profile, entry(k), 4) === tag && at + 12 <= profile.length)
      return xyz.every((value, c) => Math.abs(view.getInt32(at + 4 * c) / 65536 - value) < PRIMARY_TOLERANCE);
  }
  return false;
}

function jpegProfile(bytes) {
  const parts = [];
  for (const segment of segments(bytes))
    if (segment.ofProfile) parts[segment.bytes[16] - 1] = segment.bytes.subarray(18);
  const all = parts.filter(Boolean).flatMap((part) => [...part]);
  return all.length ? Uint8Array.from(all) : null;
}

function webpProfile(bytes) {
  return [...chunks(bytes)].find(({ type }) => type === "ICCP")?.content ?? null;
}

/** The chunk of a PNG file for a profile. @param {Uint8Array} profile */
export async function pngChunk(profile) {
  const stream = new Blob([profile]).stream().pipeThrough(new CompressionStream("deflate"));
  const compressed = new Uint8Array(await new Response(stream).arrayBuffer());
  const content = new Uint8Array(5 + compressed.length);
  content.set([0x69, 0x63, 0x63, 0, 0]); // "icc", then the method of compression
  content.set(compressed, 5);
  return { type: "iCCP", content };
}

/** The profile inside a chunk of a PNG file. @param {Uint8Array} content */
export async function profileInChunk(content) {
  const stream = new Blob([content.subarray(content.indexOf(0) + 2)]).stream();
  return new Uint8Array(await new Response(stream.pipeThrough(new DecompressionStream("deflate"))).arrayBuffer());
}

/** A JPEG file with a profile in place of its own. @param {Uint8Array} bytes @param {Uint8Array} profile */
export function withJpegProfile(bytes, profile) {
  const count = Math.ceil(profile.length / MAX_SEGMENT_BYTES), parts = [bytes.subarray(0, 2)];
  const mark = [...ICC_MARK].map((letter) => letter.charCodeAt(0));
  for (let k = 0; k < count; k++) {
    const content = profile.subarray(k * MAX_SEGMENT_BYTES, (k + 1) * MAX_SEGMENT_BYTES);
    const size = content.length + 16;
    parts.push(Uint8Array.of(0xff, 0xe2, size >> 8, size & 255, ...mark, k + 1, count), content);
  }
  for (const segment of segments(bytes)) if (!segment.ofProfile) parts.push(segment.bytes);
  return new Blob(parts, { type: "image/jpeg" });
}

/** The segments of a JPEG file after its first marker; the last one is everything from the samples on. */
function* segments(bytes) {
  let at = 2;
  for (; at + 4 <= bytes.length && bytes[at] === 0xff && bytes[at + 1] !== 0xda; ) {
    const end = at + 2 + ((bytes[at + 2] << 8) | bytes[at + 3]);
    const ofProfile = bytes[at + 1] === 0xe2 && text(bytes, at + 4, 12) === ICC_MARK;
    yield { bytes: bytes.subarray(at, end), ofProfile };
    at = end;
  }
  yield { bytes: bytes.subarray(at), ofProfile: false };
}

/** The chunks of a WebP file: type, content, and the whole with its padding. */
function* chunks(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 12; at + 8 <= bytes.length; ) {
    const size = view.getUint32(at + 4, true), end = at + 8 + size + (size & 1);
    yield { type: text(bytes, at, 4), content: bytes.subarray(at + 8, at + 8 + size), bytes: bytes.subarray(at, end) };
    at = end;
  }
}

/** A WebP file with a profile in place of its own: an extended file (VP8X) whose chunk ICCP comes first. */
export function withWebpProfile(bytes, profile, width, height) {
  const others = [...chunks(bytes)].filter(({ type }) => type !== "VP8X" && type !== "ICCP");
  const size = others.reduce((sum, other) => sum + other.bytes.length, 0), padding = profile.length & 1;
  const extended = [...chunks(bytes)].find(({ type }) => type === "VP8X");
  const head = new Uint8Array(30 + 8), view = new DataView(head.buffer);
  const put = (at, letters) => [...letters].forEach((letter, k) => (head[at + k] = letter.charCodeAt(0)));
  put(0, "RIFF");
  view.setUint32(4, 30 + profile.length + padding + size, true);
  put(8, "WEBPVP8X");
  view.setUint32(16, 10, true);
  head[20] = (extended?.content[0] ?? 0) | 0x20; // there is a profile
  [width - 1, height - 1].forEach((value, k) =>
    head.set([value & 255, (value >> 8) & 255, value >> 16], 24 + 3 * k),
  );
  put(30, "ICCP");
  view.setUint32(34, profile.length, true);
  const parts = [head, profile, new Uint8Array(padding), ...others.map((other) => other.bytes)];
  return new Blob(parts, { type: "image/webp" });
}
