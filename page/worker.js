// The network, off the page's thread. network.js sends {id, call, ...} and gets {id, ...} or {id, error}.
import { Plain } from "./files.js";
import { readMetadata } from "./onnx.js";
import { greyPng, labelMap, resized, seenSize } from "./pixels.js";

const BAND = 2 ** 20; // pixels of a label map that are made at once
const EXPORT = "python export_onnx.py CHECKPOINT model.onnx --logits";

const started = {}; // ONNX Runtime, by its name in models.json
let net; // {ort, session, classes, downscale, precision, step, fixed}
let picture; // {bitmap, width, height}
let last; // the network's output for it, as `labelMap` takes it, and its classes

/** The bytes of a file of ours, unpacked; reports how many of its bytes have come. */
async function download(file, bytes, onProgress) {
  const answer = await fetch(file).catch(() => {
    throw new Plain(`${file} cannot be loaded: go online, or choose a network that was used before.`);
  });
  if (!answer.ok) throw new Plain(`${file} cannot be loaded (${answer.status}): is the page complete?`);
  let done = 0;
  const transform = (part, to) => {
    onProgress((done += part.length), bytes);
    to.enqueue(part);
  };
  const counted = answer.body.pipeThrough(new TransformStream({ transform }));
  try {
    const got = new Uint8Array(await new Response(counted).arrayBuffer());
    if (got[0] !== 0x1f || got[1] !== 0x8b) return got; // a server that unpacks .gz itself
    const unpacked = new Blob([got]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(unpacked).arrayBuffer());
  } catch (error) {
    if (error instanceof RangeError) throw error; // out of memory
    throw new Plain(`${file} was cut off: go online, and choose the network again.`);
  }
}

async function startRuntime({ script, glue, wasm, bytes }, onProgress) {
  const runtime = await import(new URL(script, self.location));
  const { env } = runtime;
  env.wasm.wasmPaths = { mjs: new URL(glue, self.location).href };
  env.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, 8) : 1;
  env.wasm.wasmBinary = await download(wasm, bytes, onProgress);
  env.logLevel = "error";
  return runtime;
}

/** What the page needs to know of a model, from its metadata. Throws `Plain` for a foreign one. */
function describe(bytes, name) {
  let notes;
  try {
    notes = readMetadata(bytes);
  } catch {
    throw new Plain(`${name} is no ONNX file, or is damaged: write it again with ${EXPORT}`);
  }
  try {
    const classes = JSON.parse(notes.classes);
    const isClass = (c) => c.name && c.id >= 0 && c.id < 256 && c.color?.length === 3;
    if (!classes.length || classes.length > 255 || !classes.every(isClass)) throw new Error();
    const downscale = Number(notes.downscale);
    if (!(downscale >= 1) || !notes.normalization.startsWith("inside")) throw new Error();
    const step = Number(/at least (\d+)/.exec(notes.size)?.[1] ?? 0); // it pads to multiples of that
    return { classes, downscale, precision: notes.precision, step };
  } catch {
    throw new Plain(
      `${name} is an ONNX file, but its metadata lacks classes, downscale or normalization: ` +
        `write it with ${EXPORT}`,
    );
  }
}

async function start(ort, bytes, provider, name) {
  try {
    const options = { executionProviders: [provider], graphOptimizationLevel: "all", logSeverityLevel: 3 };
    return await ort.InferenceSession.create(bytes, options);
  } catch (error) {
    if (isMemory(error)) throw error;
    throw new Plain(`${name} cannot be loaded (${error.message}): write it again with ${EXPORT}`);
  }
}

/** A session on the graphics processor, or null where that does not label as WebAssembly does. */
async function startOnGpu(ort, bytes, plain, name) {
  try {
    const session = await start(ort, bytes, "webgpu", name);
    const sides = plain.inputMetadata[0].shape.slice(2);
    const [h, w] = sides.map((side) => (typeof side === "number" ? side : 128));
    const values = Uint8Array.from({ length: 3 * h * w }, (_, i) => 127 + 120 * Math.sin(i / 37 + (i / w / 11) ** 2));
    const input = new ort.Tensor("uint8", values, [1, 3, h, w]);
    const maps = [];
    for (const one of [plain, session]) {
      const [output] = Object.values(await one.run({ images: input }));
      const map = { [one.outputNames[0]]: output.data, C: output.dims[1], h, w };
      maps.push(labelMap(map, h, w, false).labels);
    }
    const same = maps[0].filter((label, i) => label === maps[1][i]).length / maps[0].length;
    if (same >= 0.98) return session;
    console.warn(`WebGPU gives other labels for ${(100 * (1 - same)).toFixed(1)} % of the pixels`);
    await session.release();
  } catch (error) {
    console.warn(`WebGPU does not run ${name}: ${error.message}`);
  }
  return null;
}

async function load({ model, runtimes, gpu }, onProgress) {
  const begin = performance.now();
  const { name } = model;
  const bytes = model.blob
    ? new Uint8Array(await model.blob.arrayBuffer())
    : await download(model.file, model.bytes, onProgress);
  const notes = describe(bytes, name);
  const onGpu = gpu && notes.precision !== "int8"; // which has no kernels there
  const runtime = onGpu || started.webgpu ? "webgpu" : "wasm"; // the former has both
  const ort = (started[runtime] ??= await startRuntime(runtimes[runtime], onProgress));
  onProgress(null);
  let session = await start(ort, bytes, "wasm", name);
  const [input] = session.inputMetadata, [output] = session.outputMetadata;
  const wanted = input?.name === "images" && input.type === "uint8" && input.shape.length === 4;
  if (!wanted || !["logits", "labels"].includes(output?.name)) {
    await session.release();
    throw new Plain(
      `${name} takes ${input?.name} and gives ${output?.name}: the page knows models that take ` +
        `images (uint8) and give logits or labels, as ${EXPORT} writes them`,
    );
  }
  const device = { name: "wasm", threads: ort.env.wasm.numThreads };
  if (onGpu) {
    const faster = await startOnGpu(ort, bytes, session, name);
    if (faster) {
      await session.release();
      session = faster;
      device.name = "webgpu";
    } else device.refused = true;
  }
  await net?.session.release();
  const sides = input.shape.slice(2);
  const fixed = sides.every((n) => typeof n === "number") ? sides : null;
  net = { ort, session, ...notes, fixed };
  const seconds = (performance.now() - begin) / 1000;
  return { classes: net.classes, fixed, device, seconds };
}

/** Label `bitmap`, or the picture of before; `out` is the size of the answer, null the network's. */
async function label({ bitmap, scale, out, wantSure }) {
  if (bitmap) {
    picture?.bitmap.close();
    picture = { bitmap, width: bitmap.width, height: bitmap.height };
  }
  const start = performance.now();
  const { width, height } = picture;
  const [h, w] = net.fixed ?? seenSize(width, height, scale, net.downscale);
  if (2 * Math.min(h, w) <= net.step) { // reflection at most doubles a side, less one pixel
    throw new Plain(
      `The network would see ${w} × ${h} pixels, and needs more than ${net.step / 2} on each side: ` +
        "move the slider for the resolution to the right, or take a larger picture.",
    );
  }
  const images = new net.ort.Tensor("uint8", resized(picture.bitmap, h, w), [1, 3, h, w]);
  const runStart = performance.now();
  const found = Object.entries(await net.session.run({ images }))[0];
  const runEnd = performance.now();
  const C = net.classes.length;
  const map = { [found[0]]: found[1].data, C, h, w, classes: net.classes };
  if (map.logits && map.logits.length !== C * h * w) {
    throw new Plain(`the model gives ${found[1].dims[1]} classes, but names ${C}: write it again`);
  }
  last = map;
  const [outHeight, outWidth] = out ?? [h, w];
  const { labels, sure } = labelMap(last, outHeight, outWidth, wantSure);
  const counts = new Uint32Array(256);
  for (const label of labels) counts[label]++;
  const milliseconds = { network: runEnd - runStart, all: performance.now() - start };
  const size = { width: outWidth, height: outHeight, seen: [h, w] };
  return { labels, sure, counts, ...size, hasSure: Boolean(last.logits), milliseconds };
}

/** The label map of the picture at its full size, ids as in the label files: a PNG. */
function save() {
  const { width, height } = picture;
  const ids = Uint8Array.from({ length: 256 }, (_, i) => last.classes[i]?.id ?? 0);
  const rows = Math.max(Math.floor(BAND / width), 1);
  function* bands() {
    for (let top = 0; top < height; top += rows) {
      const bottom = Math.min(top + rows, height);
      const { labels } = labelMap(last, height, width, false, top, bottom);
      yield labels.map((label) => ids[label]);
    }
  }
  return greyPng(width, height, bands()).then((blob) => ({ blob }));
}

const isMemory = (error) =>
  error instanceof RangeError || /memory|bad_alloc|allocat|abort/i.test(error.message);

const calls = { load, label, save };
let queue = Promise.resolve(); // one call after the other

self.onmessage = ({ data }) => (queue = queue.then(() => answer(data)));

async function answer({ id, call, ...rest }) {
  try {
    const onProgress = (done, total) => postMessage({ id, progress: { done, total } });
    const answer = await calls[call](rest, onProgress);
    const buffers = [answer.labels?.buffer, answer.sure?.buffer].filter(Boolean);
    postMessage({ id, answer }, buffers);
  } catch (error) {
    const kind = error instanceof Plain ? "plain" : isMemory(error) ? "memory" : "unknown";
    postMessage({ id, error: { kind, message: error.message ?? String(error) } });
  }
}
