// Files that the user gives: what they are, and what is wrong with them.

const MOST_PIXELS = 89478485; // predict.py's limit

/** An error whose text is written for the user. */
export class Plain extends Error {}

/** "picture", "video" or "model", by a file's type and name. */
export function kindOf(file) {
  if (/\.onnx$/i.test(file.name)) return "model";
  if (file.type.startsWith("video/") || /\.(mp4|mov|webm|mkv|avi|m4v)$/i.test(file.name)) return "video";
  return "picture";
}

/**
 * A picture file as an upright ImageBitmap, its pixels as they are in the file.
 *
 * Throws `Plain`, with the cure, for what is no picture, too large, or of a form that this browser
 * does not know.
 */
export async function decode(file) {
  const name = file.name || "the picture";
  if (!file.size) throw new Plain(`${name} is empty: restore it from where it came.`);
  const head = new Uint8Array(await file.slice(0, 2 ** 20).arrayBuffer());
  const size = sizeByHeader(head);
  if (size && size[0] * size[1] > MOST_PIXELS) {
    const megapixels = Math.round((size[0] * size[1]) / 1e6);
    throw new Plain(
      `${name} has ${megapixels} megapixels (${size[0]} × ${size[1]}), more than the ` +
        `${Math.floor(MOST_PIXELS / 1e6)} that fit into memory: make it smaller first.`,
    );
  }
  try {
    const asIs = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
    return await createImageBitmap(file, { imageOrientation: "from-image", ...asIs });
  } catch {
    const brand = new TextDecoder("latin1").decode(head.subarray(4, 32));
    if (/^ftyp.*(heic|heix|hevc|mif1|msf1)/.test(brand) || /\.hei[cf]$/i.test(name)) {
      throw new Plain(
        `${name} is a HEIC picture, which this browser cannot read (Safari can): save it as JPEG. ` +
          "An iPhone takes JPEG with Settings, Camera, Formats, Most Compatible.",
      );
    }
    if (size || /\.(jpe?g|png|webp|gif|bmp|avif)$/i.test(name)) {
      throw new Plain(
        `${name} is damaged, no picture at all, or too large for this device's memory: ` +
          "restore it from where it came, or make it smaller.",
      );
    }
    throw new Plain(`${name} is no picture or video that this browser knows: save it as JPEG or PNG.`);
  }
}

/** Width and height by the header of a PNG or JPEG, the forms of huge pictures; null of another. */
export function sizeByHeader(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  try {
    if (view.getUint32(0) === 0x89504e47) return [view.getUint32(16), view.getUint32(20)];
    if (view.getUint16(0) !== 0xffd8) return null;
    for (let at = 2; ; at += 2 + view.getUint16(at + 2)) {
      while (bytes[at + 1] === 0xff) at++; // fill bytes
      const marker = bytes[at + 1];
      const isFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
      if (isFrame) return [view.getUint16(at + 7), view.getUint16(at + 5)];
    }
  } catch {
    return null; // cut off
  }
}
