// Pixels in and out, as predict.py treats them: resizing, label maps, PNG. No DOM but OffscreenCanvas.

const BAND = 2 ** 20; // pixels read from a picture at once, so that a large one is never held in memory at once

/** Height and width that the network sees of a picture: `predict --scale`, divided by `downscale`. */
export function seenSize(width, height, scale, downscale) {
  return [height, width].map((n) => Math.max(Math.floor((n * scale) / downscale + 1e-6), 1));
}

/** The scale that brings a picture to some megapixels, never above 1, with four decimals. */
export function scaleFor(width, height, megapixels) {
  return Math.min(Math.round(Math.sqrt((megapixels * 1e6) / (width * height)) * 1e4) / 1e4, 1);
}

/**
 * Which source pixels, and with what weights, make each of `size` pixels: a triangle, antialiased.
 *
 * The weights are integers, as Pillow's and torchvision's, in units of 2 ** -bits.
 */
function taps(from, size) {
  const scale = from / size, support = Math.max(scale, 1);
  const all = Array.from({ length: size }, (_, i) => {
    const center = (i + 0.5) * scale;
    const first = Math.max(Math.floor(center - support + 0.5), 0);
    const last = Math.min(Math.floor(center + support + 0.5), from);
    const weights = [];
    for (let j = first; j < last; j++) {
      weights.push(Math.max(1 - Math.abs((j - center + 0.5) / support), 0));
    }
    const sum = weights.reduce((a, b) => a + b, 0);
    return { first, weights: weights.map((weight) => weight / sum) };
  });
  const most = Math.max(...all.map(({ weights }) => Math.max(...weights)));
  let bits = 0;
  while (bits < 22 && Math.floor(0.5 + most * 2 ** (bits + 1)) < 2 ** 15) bits++;
  for (const one of all) {
    one.weights = Int32Array.from(one.weights, (weight) => Math.floor(weight * 2 ** bits + 0.5));
  }
  return { all, bits, half: 2 ** (bits - 1) };
}

/**
 * A picture as the network's input: planes of red, green and blue, bytes, (3, height, width).
 *
 * As torchvision and Pillow resize: bilinear, antialiased, first along the rows, then down the
 * columns, rounded to bytes in between.
 */
export function resized(bitmap, height, width) {
  const { width: W, height: H } = bitmap;
  const rows = new Uint8ClampedArray(H * width * 3);
  const band = Math.max(Math.min(Math.floor(BAND / W), H), 1);
  const canvas = new OffscreenCanvas(W, band);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new RangeError("out of memory");
  const across = taps(W, width);
  for (let top = 0; top < H; top += band) {
    const count = Math.min(band, H - top);
    context.fillStyle = "#fff"; // what is transparent is seen on white
    context.fillRect(0, 0, W, count);
    context.drawImage(bitmap, 0, top, W, count, 0, 0, W, count);
    const { data } = context.getImageData(0, 0, W, count);
    for (let y = 0; y < count; y++) {
      let to = (top + y) * width * 3;
      for (let x = 0; x < width; x++) {
        const { first, weights } = across.all[x];
        let r = across.half, g = r, b = r;
        for (let k = 0, at = (y * W + first) * 4; k < weights.length; k++, at += 4) {
          r += weights[k] * data[at];
          g += weights[k] * data[at + 1];
          b += weights[k] * data[at + 2];
        }
        rows[to++] = r >> across.bits;
        rows[to++] = g >> across.bits;
        rows[to++] = b >> across.bits;
      }
    }
  }
  const down = taps(H, height);
  const planes = new Uint8ClampedArray(3 * height * width);
  const stride = width * 3;
  for (let y = 0; y < height; y++) {
    const { first, weights } = down.all[y];
    for (let i = 0; i < stride; i++) {
      let sum = down.half;
      for (let k = 0, at = first * stride + i; k < weights.length; k++, at += stride) {
        sum += weights[k] * rows[at];
      }
      planes[((i % 3) * height + y) * width + (i - (i % 3)) / 3] = sum >> down.bits;
    }
  }
  return new Uint8Array(planes.buffer);
}

// exp(-i / 256), so that a softmax costs a look-up for each class; beyond 16 it is nothing
const EXP = Float32Array.from({ length: 4097 }, (_, i) => (i < 4096 ? Math.exp(-i / 256) : 0));

/** Two source pixels and a fraction for each of `size`, as torch's bilinear interpolation has it. */
function lerps(from, size) {
  const low = new Int32Array(size), high = new Int32Array(size), part = new Float32Array(size);
  for (let i = 0; i < size; i++) {
    const at = Math.min(Math.max(((i + 0.5) * from) / size - 0.5, 0), from - 1);
    low[i] = Math.floor(at);
    high[i] = Math.min(low[i] + 1, from - 1);
    part[i] = at - low[i];
  }
  return { low, high, part };
}

/**
 * Rows `top` to `bottom` of the label map of size (height, width), and how probable it is.
 *
 * map: {logits: Float32Array (C, h, w)} or {labels: Uint8Array (h, w)}, with C, h and w.
 * Returns labels, and sure: bytes, 255 certain, or null where there are no logits or none are asked
 * for.
 */
export function labelMap(map, height, width, wantSure = true, top = 0, bottom = height) {
  const { C, h, w } = map;
  const labels = new Uint8Array((bottom - top) * width);
  if (map.labels) {
    for (let y = top, to = 0; y < bottom; y++) {
      const row = Math.floor(((y + 0.5) * h) / height) * w;
      for (let x = 0; x < width; x++) {
        labels[to++] = map.labels[row + Math.floor(((x + 0.5) * w) / width)];
      }
    }
    return { labels, sure: null };
  }
  const down = lerps(h, height), { low, high, part } = lerps(w, width);
  const sure = wantSure ? new Uint8Array(labels.length) : null;
  const row = new Float32Array(w), values = new Float32Array(C * width);
  const best = new Float32Array(width);
  for (let y = top; y < bottom; y++) {
    const t = down.part[y];
    const to = (y - top) * width;
    best.fill(-Infinity);
    for (let c = 0; c < C; c++) {
      const above = (c * h + down.low[y]) * w, below = (c * h + down.high[y]) * w;
      for (let x = 0; x < w; x++) {
        const a = map.logits[above + x];
        row[x] = a + t * (map.logits[below + x] - a);
      }
      for (let x = 0, at = c * width; x < width; x++, at++) {
        const a = row[low[x]];
        const value = (values[at] = a + part[x] * (row[high[x]] - a));
        if (value > best[x]) {
          best[x] = value;
          labels[to + x] = c;
        }
      }
    }
    if (!wantSure) continue;
    for (let x = 0; x < width; x++) {
      let sum = 0;
      for (let at = x; at < values.length; at += width) {
        sum += EXP[Math.min((best[x] - values[at]) * 256 + 0.5, 4096) | 0];
      }
      sure[to + x] = Math.round(255 / sum);
    }
  }
  return { labels, sure };
}

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function chunk(name, data) {
  const bytes = new Uint8Array(12 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(new TextEncoder().encode(name), 4);
  bytes.set(data, 8);
  let crc = -1;
  for (let i = 4; i < 8 + data.length; i++) crc = CRC[(crc ^ bytes[i]) & 255] ^ (crc >>> 8);
  view.setUint32(8 + data.length, ~crc >>> 0);
  return bytes;
}

/**
 * An 8-bit grey PNG, the form of label files: a canvas writes only colours.
 *
 * bands: yields Uint8Array of whole rows.
 */
export async function greyPng(width, height, bands) {
  const packer = new CompressionStream("deflate"); // zlib's form, as PNG has it
  const packed = new Response(packer.readable).arrayBuffer();
  const writer = packer.writable.getWriter();
  for (const band of bands) {
    const rows = new Uint8Array((band.length / width) * (width + 1)); // each begins with its filter, 0
    for (let y = 0; y * width < band.length; y++) {
      rows.set(band.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
    }
    await writer.write(rows);
  }
  await writer.close();
  const header = new Uint8Array(13);
  new DataView(header.buffer).setUint32(0, width);
  new DataView(header.buffer).setUint32(4, height);
  header[8] = 8; // bits; the other fields are 0: grey
  const magic = Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10), data = new Uint8Array(await packed);
  const chunks = [chunk("IHDR", header), chunk("IDAT", data), chunk("IEND", new Uint8Array(0))];
  return new Blob([magic, ...chunks], { type: "image/png" });
}
