/** The ICC profile of JPEG and WebP files: read, and put into files that the browser has written. */

const ICC_MARK = "ICC_PROFILE\0";
const MAX_SEGMENT_BYTES = 65_000;

const text = (bytes, at, size) => String.fromCharCode(...bytes.subarray(at, at + size));

/** The profile of a JPEG or WebP file, or null. @param {Uint8Array} bytes @returns {Uint8Array | null} */
export function profileOf(bytes) {
  if (bytes[0] === 0xff && bytes[1] === 0xd8) return jpegProfile(bytes);
  if (text(bytes, 0, 4) === "RIFF" && text(bytes, 8, 4) === "WEBP") return webpProfile(bytes);
  return null;
}

function jpegProfile(bytes) {
  const parts = [];
  for (let at = 2; at + 4 <= bytes.length && bytes[at] === 0xff && bytes[at + 1] !== 0xda; ) {
    const size = (bytes[at + 2] << 8) | bytes[at + 3];
    if (bytes[at + 1] === 0xe2 && text(bytes, at + 4, 12) === ICC_MARK)
      parts[bytes[at + 16] - 1] = bytes.subarray(at + 18, at + 2 + size);
    at += 2 + size;
  }
  const all = parts.filter(Boolean).flatMap((part) => [...part]);
  return all.length ? Uint8Array.from(all) : null;
}

function webpProfile(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 12; at + 8 <= bytes.length; ) {
    const size = view.getUint32(at + 4, true);
    if (text(bytes, at, 4) === "ICCP") return bytes.slice(at + 8, at + 8 + size);
    at += 8 + size + (size & 1);
  }
  return null;
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

/** A JPEG file with a profile. @param {Uint8Array} bytes @param {Uint8Array} profile */
export function withJpegProfile(bytes, profile) {
  const count = Math.ceil(profile.length / MAX_SEGMENT_BYTES), parts = [bytes.subarray(0, 2)];
  for (let k = 0; k < count; k++) {
    const content = profile.subarray(k * MAX_SEGMENT_BYTES, (k + 1) * MAX_SEGMENT_BYTES);
    const size = content.length + 16;
    const mark = [...ICC_MARK].map((letter) => letter.charCodeAt(0));
    parts.push(Uint8Array.of(0xff, 0xe2, size >> 8, size & 255, ...mark, k + 1, count), content);
  }
  return new Blob([...parts, bytes.subarray(2)], { type: "image/jpeg" });
}

/** A WebP file with a profile: an extended file (VP8X) whose chunk ICCP comes first. */
export function withWebpProfile(bytes, profile, width, height) {
  const extended = text(bytes, 12, 4) === "VP8X";
  const rest = bytes.subarray(extended ? 30 : 12);
  const flags = (extended ? bytes[20] : 0) | 0x20;
  const head = new Uint8Array(30 + 8), view = new DataView(head.buffer);
  const put = (at, letters) => [...letters].forEach((letter, k) => (head[at + k] = letter.charCodeAt(0)));
  const padding = profile.length & 1;
  put(0, "RIFF");
  view.setUint32(4, 30 + profile.length + padding + rest.length, true);
  put(8, "WEBPVP8X");
  view.setUint32(16, 10, true);
  head[20] = flags;
  [width - 1, height - 1].forEach((value, k) =>
    head.set([value & 255, (value >> 8) & 255, value >> 16], 24 + 3 * k),
  );
  put(30, "ICCP");
  view.setUint32(34, profile.length, true);
  return new Blob([head, profile, new Uint8Array(padding), rest], { type: "image/webp" });
}
