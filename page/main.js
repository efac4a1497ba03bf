// The page: what comes in, what is shown, what can be kept. The network runs in worker.js.
import { Plain, decode, kindOf } from "./files.js";
import * as live from "./live.js";
import { scaleFor } from "./pixels.js";

const $ = (id) => document.getElementById(id);
const clamp = (value) => Math.min(Math.max(value, 0), 1);
const SHOWN = 2 ** 20; // most pixels of a shown label map; downloads have the picture's size
const KEPT = 2 ** 22; // most pixels of the shown picture and of a downloaded overlay

let list; // models.json
let model, loaded; // the entry that is used, and what its file says of itself
let items = [], current; // {name, kind: "picture" | "video" | "camera", blob, button}
let result; // the last answer of the worker, with labels and sure as shown
let only = null; // the class that is shown alone
let gpu; // WebGPU's adapter, if there is one
let facing = "environment", stopLive = null, stopRecord = null;
let turn = 0; // counts requests: answers to those that are no longer wanted are dropped
let opening = false; // whether a picture is read that the worker has not got yet
let stale = false; // whether the controls changed since what is shown was labelled
let busy; // what the worker labels now
let isReady = false; // whether the worker has a network
const again = new EventTarget(); // its event "again" asks to label a paused frame again

// ------------------------------------------------------------------ the worker

let worker, ready; // ready: a promise of the loaded model
const waiting = new Map();
let calls = 0;

function startWorker() {
  worker?.terminate();
  isReady = false;
  if (current) current.size = undefined; // the new one has no picture yet
  allowSaving(false);
  const restarted = Object.assign(new Plain("It was started again."), { kind: "restarted" });
  for (const { fail } of waiting.values()) fail(restarted);
  waiting.clear();
  worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  worker.onmessage = ({ data: { id, answer, error, progress } }) => {
    const call = waiting.get(id);
    if (!call) return;
    if (progress) return call.onProgress?.(progress);
    waiting.delete(id);
    if (error) call.fail(Object.assign(new Plain(error.message), { kind: error.kind }));
    else call.done(answer);
  };
  worker.onerror = (event) => {
    worker.terminate();
    worker = null; // the next call starts another
    const error = Object.assign(new Plain(event.message || "The worker stopped."), { kind: "unknown" });
    for (const { fail } of waiting.values()) fail(error);
    waiting.clear();
  };
}

function allowSaving(allowed) {
  for (const id of ["save-labels", "save-overlay"]) $(id).disabled = !allowed;
}

function ask(call, data = {}, transfer = [], onProgress) {
  if (!worker) startWorker();
  return new Promise((done, fail) => {
    waiting.set(++calls, { done, fail, onProgress });
    worker.postMessage({ id: calls, call, ...data }, transfer);
  });
}

/** Load a model. If it does not load, an error is shown, and the last one stays. */
function useModel(entry) {
  ready = loadModel(entry).catch(async (error) => {
    if (error.kind === "restarted") return useModel(entry);
    show(error, entry);
    $("model").value = isReady ? model.key : "";
    if (error.kind === "plain") return;
    startWorker();
    if (model) await loadModel(model).catch(noModel);
  });
  return ready;
}

/** The network did not load again: it must be possible to choose it. */
function noModel(error) {
  $("model").value = "";
  show(error, model);
}

async function loadModel(entry) {
  working(`Loading ${entry.name}`);
  const tell = ({ done, total }) =>
    done === null
      ? working(`Starting ${entry.name}`)
      : working(`Loading ${entry.name}, ${mb(done)} of ${mb(total)}`, done / total);
  const request = { model: { ...entry, option: null }, runtimes: list.runtimes, gpu: Boolean(gpu) };
  loaded = await ask("load", request, [], tell);
  isReady = true;
  model = entry;
  working(null);
  $("model").value = model.key;
  $("megapixels").disabled = Boolean(loaded.fixed);
  only = null;
  result = undefined;
  drawLegend();
  showDevice();
}

function showDevice() {
  const { name, threads, refused } = loaded.device;
  const one = self.crossOriginIsolated
    ? ""
    : ", one because this server does not send the headers for more";
  const { vendor, architecture } = gpu?.info ?? {};
  const chip = [vendor, architecture].filter(Boolean).join(" ");
  const where =
    name === "webgpu"
      ? `Runs on the graphics processor by WebGPU${chip ? ` (${chip})` : ""}.`
      : `Runs on the processor by WebAssembly with ${threads} thread${threads > 1 ? "s" : ""}${one}.`;
  const why = refused ? " WebGPU is there, but did not label as WebAssembly does." : "";
  const what = `${model.name}, ${model.precision ?? "yours"}, ready after ${loaded.seconds.toFixed(1)} s`;
  $("device").textContent = `${where}${why} Network: ${what}.`;
  $("licence").textContent = `Licence of the network: ${model.licence}.`;
}

// ------------------------------------------------------------------ messages

const mb = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

function working(text, fraction) {
  $("working").hidden = text === null;
  $("stage").setAttribute("aria-busy", String(text !== null));
  $("working").querySelector("span").textContent = text ?? "";
  if (fraction) $("progress").value = fraction;
  else $("progress").removeAttribute("value");
  if (text !== null && !fraction) $("status").textContent = text; // which screen readers read out
}

/** An error in words; `from` is what it was about. */
function show(error, from = current) {
  working(null);
  const memory = from?.key
    ? "This device's memory does not suffice for this network: choose a smaller one."
    : "This device's memory does not suffice for this picture at this resolution: move the slider " +
      "for the resolution to the left, or take a smaller picture.";
  const name = from?.name ? `${from.name}: ` : "";
  const text = error.kind === "memory" ? memory : error instanceof Plain ? error.message : null;
  $("error").querySelector("span").textContent = text ?? `${name}${error.message ?? error}`;
  $("error").hidden = false;
  $("status").textContent = "";
  if (!(error instanceof Plain)) console.warn(error);
}

// ------------------------------------------------------------------ what comes in

async function take(files) {
  $("error").hidden = true;
  let first;
  for (const file of files) {
    const name = file.name || "pasted picture";
    const kind = kindOf(file);
    if (kind === "model") await useOwnModel(file);
    else {
      const item = add({ name, kind, blob: file });
      first ??= item;
    }
  }
  if (first) open(first);
}

/** A file in the gallery; returns it. */
function add(item) {
  const button = document.createElement("button");
  button.type = "button";
  const image = item.kind === "picture" ? new Image() : document.createElement("i");
  if (item.kind === "picture") {
    image.alt = "";
    image.src = item.file ?? URL.createObjectURL(item.blob);
    image.onerror = () => image.replaceWith(document.createElement("i"));
  } else image.textContent = "▶";
  const label = document.createElement("span");
  label.textContent = item.name;
  button.append(image, label);
  button.onclick = () => choose(item);
  const row = document.createElement("li");
  row.append(button);
  $("gallery").append(row);
  items.push(Object.assign(item, { button }));
  return item;
}

async function useOwnModel(file) {
  const key = `own ${file.name}`;
  let entry = list.models.find((known) => known.key === key);
  if (!entry) {
    entry = { key, name: file.name, licence: "as its owner says" };
    entry.option = new Option(`${file.name}, yours`, key);
  }
  entry.blob = file;
  await useModelAndShow(entry);
  if (model !== entry || list.models.includes(entry)) return;
  list.models.push(entry);
  $("model").append(entry.option);
  $("model").value = key;
}

async function useModelAndShow(entry) {
  await useModel(entry);
  if (current && (model === entry || !result)) await relabel();
}

async function fetched(file) {
  const answer = await fetch(file);
  if (!answer.ok) throw new Plain(`${file} is not there: make the page again with \`make page\`.`);
  return answer.blob();
}

/** Open what the user asked for: an error of before is done with. */
function choose(item) {
  $("error").hidden = true;
  return open(item);
}

/** Show a picture, a video or the camera. What cannot be shown leaves the one before. */
async function open(item) {
  const mine = ++turn;
  opening = true;
  try {
    if (item.kind !== "picture") return await play(item, mine);
    working("Reading the picture");
    item.blob ??= await fetched(item.file);
    item.blob.name ??= item.name;
    const bitmap = await decode(item.blob);
    if (mine !== turn) return bitmap.close();
    stop();
    begin(item);
    drawPicture(bitmap, KEPT);
    await free();
    if (mine !== turn) return bitmap.close();
    opening = false;
    if (isLoaded()) await label(bitmap, { out: fit(bitmap, SHOWN) });
    else bitmap.close();
  } catch (error) {
    if (mine !== turn && item !== current) return;
    if (item === current && item.kind !== "picture") stop();
    if (mine === turn) opening = false;
    if (error.kind === "restarted") return open(item);
    if (!item.shown) forget(item);
    fail(error);
    if (mine === turn && current && current !== item && (stale || !result)) relabel();
  }
}

/** Wait for the network, and for the picture that it labels, so that no queue of them forms. */
async function free() {
  await ready;
  await busy?.catch(() => {});
}

function isLoaded() {
  if (isReady) return true;
  working(null);
  if ($("error").hidden) show(new Plain("No network is loaded: choose one above."));
  return false;
}

/** Make an item, which can be shown, the current one. */
function begin(item) {
  current = Object.assign(item, { shown: true, size: undefined });
  stale = false;
  result = undefined;
  Object.assign($("overlay"), { width: 1, height: 1 });
  $("overlay").setAttribute("aria-label", "No labels yet");
  for (const { button } of items) button.setAttribute("aria-current", String(button === item.button));
  $("live").hidden = item.kind === "picture";
  $("seek").hidden = item.kind === "camera";
  $("turn").hidden = item.kind !== "camera";
  allowSaving(false);
}

function forget(item) {
  item.button?.parentElement.remove();
  items = items.filter((other) => other !== item);
}

/** Show an error; after one of memory or of the runtime, a new worker takes over. */
function fail(error) {
  show(error);
  if (error.kind !== "memory" && error.kind !== "unknown") return;
  startWorker();
  if (!model) return;
  ready = loadModel(model).then(() => ($("status").textContent = ""), noModel);
}

async function play(item, mine) {
  working(item.kind === "camera" ? "Starting the camera" : "Reading the video");
  const video = $("video");
  if (item.kind === "camera" && current?.kind === "camera") stop(); // phones open one at a time
  const source = item.kind === "camera" ? await live.camera(facing) : item.blob;
  if (mine !== turn) return source.getTracks?.().forEach((track) => track.stop());
  stop();
  const end = new AbortController();
  stopLive = () => {
    end.abort();
    live.close(video);
    stopLive = null;
  };
  await live.open(video, source).catch((error) => {
    stop();
    throw error;
  });
  if (mine !== turn) return stop();
  begin(item);
  opening = false;
  const lost = (text) => item === current && show(new Plain(text));
  video.onerror = () => lost(`${item.name} is damaged from here on: restore it from where it came.`);
  for (const track of source.getTracks?.() ?? []) {
    track.onended = () => lost("The camera is gone: connect it, and press Camera.");
  }
  let labelled = 0, skipped = 0;
  const times = [];
  await live.frames(video, end.signal, again, async (bitmap, missed) => {
    await ready;
    if (end.signal.aborted || !isLoaded()) return bitmap.close();
    await label(bitmap, { out: null, isFrame: true });
    if (end.signal.aborted) return;
    if (labelled++) skipped += missed;
    times.push(performance.now());
    while (times.length > 10) times.shift();
    const rate = (times.length - 1) / ((times.at(-1) - times[0]) / 1000);
    const speed = times.length > 1 ? `${rate.toFixed(1)} frames a second, ` : "";
    $("rate").value = `${speed}${labelled} labelled, ${skipped} skipped`;
    if (video.duration < Infinity) $("seek").value = (1000 * video.currentTime) / video.duration;
    showPlay();
  });
}

function stop() {
  stopLive?.();
  if (stopRecord) endRecording();
  $("rate").value = "";
}

function showPlay() {
  const { paused, ended } = $("video");
  $("play").textContent = ended ? "Play again" : paused ? "Play" : "Pause";
}

// ------------------------------------------------------------------ labelling

/** A size with a picture's proportions of at most `most` pixels: [height, width]. */
function fit({ width, height }, most) {
  const scale = Math.min(Math.sqrt(most / (width * height)), 1);
  return [height, width].map((n) => Math.max(Math.round(n * scale), 1));
}

/** Label a bitmap, which goes to the worker; null takes the one that is there. */
async function label(bitmap, { out, isFrame = false }) {
  const mine = turn, item = current;
  const size = bitmap ?? current.size;
  current.size = { width: size.width, height: size.height };
  const scale = scaleFor(size.width, size.height, $("megapixels").valueAsNumber);
  if (!isFrame) working("Labelling");
  const copy = isFrame ? await createImageBitmap(bitmap) : null; // to be drawn with its labels
  if (item !== current) { // another was opened meanwhile
    copy?.close();
    return bitmap.close();
  }
  const wantSure = !isFrame || $("video").paused || layer() === "sure" || !$("probe").hidden;
  const request = { bitmap, scale, out, wantSure };
  busy = ask("label", request, bitmap ? [bitmap] : []);
  const found = await busy;
  if (mine !== turn || item !== current) return copy?.close();
  if (copy) drawPicture(copy, SHOWN);
  copy?.close();
  result = found;
  stale = false;
  paint();
  showFrequencies();
  probe();
  working(null);
  const [h, w] = found.seen, ms = found.milliseconds;
  $("seen").textContent = loaded.fixed
    ? `This network takes ${w} × ${h} pixels, whatever the picture's size.`
    : `The network sees ${w} × ${h} pixels (predict.py --scale ${scale}).`;
  if (!isFrame) {
    $("status").textContent = `Labelled in ${(ms.all / 1000).toFixed(2)} s, the network alone ${(ms.network / 1000).toFixed(2)} s.`;
  } else if ($("status").textContent) $("status").textContent = "";
  allowSaving(true);
  $("stage").dataset.done = String(Number($("stage").dataset.done ?? 0) + 1); // for tests
}

async function relabel() {
  stale = true; // until that is shown
  if (opening) return; // what is opened will be labelled as the controls then say
  if (current.kind !== "picture" && stopLive) return again.dispatchEvent(new Event("again"));
  if (!current.size || current.kind !== "picture") return open(current);
  const mine = ++turn;
  try {
    await free();
    if (mine === turn && isLoaded()) await label(null, { out: fit(current.size, SHOWN) });
  } catch (error) {
    if (mine === turn) fail(error);
  }
}

// ------------------------------------------------------------------ what is shown

/** Set a canvas's size, unless it has it: that would clear the canvas. */
function resize(canvas, width, height) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
}

const layer = () => document.querySelector("input[name=layer]:checked").value;

function drawPicture(bitmap, most) {
  const [height, width] = fit(bitmap, most);
  const canvas = $("picture");
  resize(canvas, width, height);
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
}

// viridis, turned round: what is unsure is bright
const SURE = Array.from({ length: 256 }, (_, i) => {
  const stops = [[253, 231, 37], [53, 183, 121], [49, 104, 142], [68, 1, 84], [68, 1, 84]];
  const at = (i / 255) * 3, k = Math.floor(at);
  return stops[k].map((v, c) => Math.round(v + (at - k) * (stops[k + 1][c] - v)));
});

/** Paint the label map, or how sure it is, as the controls say. */
function paint() {
  if (!result) return;
  const { labels, sure, width, height } = result;
  const canvas = $("overlay");
  resize(canvas, width, height);
  const alpha = Math.round(2.55 * $("opacity").valueAsNumber);
  const bySure = layer() === "sure" && sure;
  const colors = bySure ? SURE : loaded.classes.map(({ color }) => color);
  // A canvas keeps red, green, blue and alpha in this order of bytes, on every common processor.
  const words = Uint32Array.from({ length: 256 }, (_, i) => {
    const [r, g, b] = colors[i] ?? [0, 0, 0];
    return ((alpha << 24) | (b << 16) | (g << 8) | r) >>> 0;
  });
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const source = bySure ? sure : labels, outlines = $("outlines").checked;
  const isShown = (label) => only === null || label === only;
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const label = labels[i], left = x ? labels[i - 1] : label, above = y ? labels[i - width] : label;
      const edge = outlines && (label !== left || label !== above);
      if (edge && [label, left, above].some(isShown)) pixels[i] = 0xffffffff;
      else if (isShown(label)) pixels[i] = words[source[i]];
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  $("scale").hidden = !bySure;
  if (stopRecord) compose(stopRecord.canvas);
}

const percentText = (part) => (part && part < 0.001 ? "< 0.1 %" : `${(100 * part).toFixed(1)} %`);

function drawLegend() {
  $("legend").replaceChildren(
    ...loaded.classes.map(({ name, color }, index) => {
      const button = document.createElement("button");
      const patch = document.createElement("i"), text = document.createElement("span");
      button.type = "button";
      button.setAttribute("aria-pressed", "false");
      patch.style.background = `rgb(${color.join()})`;
      text.textContent = name;
      button.append(patch, text, document.createElement("b"));
      button.onclick = () => {
        only = only === index ? null : index;
        [...$("legend").querySelectorAll("button")].forEach((other, i) =>
          other.setAttribute("aria-pressed", String(i === only)),
        );
        paint();
      };
      const row = document.createElement("li");
      row.append(button);
      return row;
    }),
  );
}

function showFrequencies() {
  const total = result.labels.length;
  const frequencies = loaded.classes.map((_, i) => result.counts[i] / total);
  [...$("legend").children].forEach((row, i) => {
    row.querySelector("b").textContent = percentText(frequencies[i]);
    row.querySelector("button").classList.toggle("absent", !frequencies[i]);
  });
  const most = frequencies.map((part, i) => [part, loaded.classes[i].name]).sort(([a], [b]) => b - a);
  const words = most.slice(0, 5).filter(([part]) => part >= 0.001);
  const text = words.map(([part, name]) => `${name} ${percentText(part)}`).join(", ");
  $("overlay").setAttribute("aria-label", `Labels of ${current.name}: ${text}`);
  for (const input of document.querySelectorAll("input[name=layer]")) {
    if (input.value === "sure") input.disabled = !result.hasSure;
  }
}

// ------------------------------------------------------------------ pointer and keys on the picture

let point = null; // 0..1, 0..1

/** Show the class under the point, and how probable it is. */
function probe() {
  $("probe").hidden = $("cross").hidden = !point || !result;
  if (!point || !result) return;
  const { labels, sure, width, height } = result;
  const [x, y] = [point.x * width, point.y * height].map(Math.floor);
  const at = Math.min(y, height - 1) * width + Math.min(x, width - 1);
  const probability = sure ? `, ${Math.round(sure[at] / 2.55)} %` : "";
  $("probe").value = `${loaded.classes[labels[at]]?.name ?? "no class"}${probability}`;
  $("probe").style.top = $("cross").style.top = `${100 * point.y}%`;
  $("cross").style.left = `${100 * point.x}%`;
  $("cross").hidden = !point.byKeys;
  const { offsetWidth: own } = $("probe"), { clientWidth: all } = $("stage");
  const left = Math.min(Math.max(point.x * all, own / 2), all - own / 2);
  $("probe").style.left = `${left}px`;
  $("probe").style.transform = point.y < 0.15 ? "translate(-50%, 80%)" : "";
}

function place(event) {
  const box = $("stage").getBoundingClientRect();
  return { x: clamp((event.clientX - box.left) / box.width), y: clamp((event.clientY - box.top) / box.height) };
}

function divide(position) {
  const percent = Math.round(100 * clamp(position));
  $("divider").style.left = `${percent}%`;
  $("divider").setAttribute("aria-valuenow", percent);
  $("divider").setAttribute("aria-valuetext", `${percent} % of the picture without labels`);
  $("overlay").style.clipPath = `inset(0 0 0 ${percent}%)`;
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Probe where an event is, if anywhere. */
function probeAt(event) {
  point = event && place(event);
  probe();
}

for (const name of ["pointermove", "pointerdown"]) $("stage").addEventListener(name, probeAt);
for (const name of ["pointerleave", "blur"]) $("stage").addEventListener(name, () => probeAt(null));
$("stage").addEventListener("keydown", (event) => {
  if (!ARROWS[event.key] || event.target !== $("stage")) return;
  event.preventDefault();
  const [dx, dy] = ARROWS[event.key], step = event.shiftKey ? 0.1 : 0.01;
  const { x, y } = point ?? { x: 0.5, y: 0.5 };
  point = { x: clamp(x + dx * step), y: clamp(y + dy * step), byKeys: true };
  probe();
});
$("divider").addEventListener("pointerdown", (event) => $("divider").setPointerCapture(event.pointerId));
$("divider").addEventListener("pointermove", (event) => {
  if ($("divider").hasPointerCapture(event.pointerId)) divide(place(event).x);
});
$("divider").addEventListener("keydown", (event) => {
  const now = Number($("divider").getAttribute("aria-valuenow"));
  const steps = { ArrowLeft: now - 2, ArrowDown: now - 2, ArrowRight: now + 2, ArrowUp: now + 2, Home: 0, End: 100 };
  if (!(event.key in steps)) return;
  event.preventDefault();
  divide(steps[event.key] / 100);
});

// ------------------------------------------------------------------ what can be kept

function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

const stem = () => current.name.replace(/\.[^.]*$/, "").replace(/[^\w.-]+/g, "-") || "picture";

/** The picture under its labels, as the controls say, without the slider. */
function compose(canvas) {
  const { width, height } = $("picture");
  resize(canvas, width, height);
  const context = canvas.getContext("2d");
  context.drawImage($("picture"), 0, 0);
  context.drawImage($("overlay"), 0, 0, width, height);
  return canvas;
}

$("save-labels").onclick = async () => {
  const name = `${stem()}_labels.png`; // another picture may be current once it is made
  try {
    download((await ask("save")).blob, name);
  } catch (error) {
    fail(error);
  }
};
$("save-overlay").onclick = () => {
  const canvas = compose(document.createElement("canvas"));
  canvas.toBlob((blob) => download(blob, `${stem()}_overlay.jpg`), "image/jpeg", 0.92);
};

$("record").onclick = async () => {
  if (stopRecord) return endRecording();
  try {
    const canvas = compose(document.createElement("canvas"));
    stopRecord = live.record(canvas);
    stopRecord.canvas = canvas;
    stopRecord.stem = stem();
    $("record").textContent = "Stop and download";
    if (current.kind === "video" && ($("video").ended || $("video").paused)) {
      await $("video").play();
      showPlay();
    }
  } catch (error) {
    stopRecord = null;
    show(error);
  }
};

async function endRecording() {
  const end = stopRecord;
  stopRecord = null;
  $("record").textContent = "Record overlay";
  const blob = await end();
  download(blob, `${end.stem}_overlay.${blob.type.split("/")[1]}`);
}

// ------------------------------------------------------------------ controls

$("choose").onchange = ({ target }) => {
  take([...target.files]);
  target.value = ""; // so that the same file can be chosen again
};
$("camera").onclick = () => choose({ name: "camera", kind: "camera" });
$("turn").onclick = () => {
  facing = facing === "user" ? "environment" : "user";
  choose({ name: "camera", kind: "camera" });
};
$("play").onclick = async () => {
  const video = $("video");
  if (!stopLive) return choose(current); // it was ended by an error
  if (video.paused || video.ended) await video.play().catch(show);
  else video.pause();
  showPlay();
};
$("video").onplay = showPlay;
$("video").onpause = () => {
  showPlay();
  again.dispatchEvent(new Event("again")); // with how sure it is, for the pointer
};
$("video").onended = () => {
  showPlay();
  if (stopRecord) endRecording();
};
$("seek").oninput = ({ target }) => {
  const { duration } = $("video");
  if (duration < Infinity) $("video").currentTime = (target.valueAsNumber / 1000) * duration;
};
$("model").onchange = ({ target }) => {
  $("error").hidden = true;
  useModelAndShow(list.models.find(({ key }) => key === target.value));
};
for (const input of document.querySelectorAll("input[name=layer], #outlines")) {
  input.onchange = () => {
    if (layer() === "sure" && result && !result.sure) again.dispatchEvent(new Event("again"));
    paint();
  };
}
$("opacity").oninput = ({ target }) => {
  document.querySelector("output[for=opacity]").value = `${target.value} %`;
  paint();
};
$("megapixels").oninput = ({ target }) => {
  document.querySelector("output[for=megapixels]").value = `${target.valueAsNumber.toFixed(2)} MP`;
};
$("megapixels").onchange = () => {
  $("error").hidden = true;
  if (current) relabel();
};
$("error").querySelector("button").onclick = () => ($("error").hidden = true);

addEventListener("paste", ({ clipboardData }) => clipboardData.files.length && take([...clipboardData.files]));
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
addEventListener("dragleave", (event) => event.relatedTarget ?? document.body.classList.remove("dropping"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  take([...event.dataTransfer.files]);
});

// ------------------------------------------------------------------ the start

/** Have the service worker in charge; true if the page must be loaded again for its headers. */
async function serviceWorker() {
  if (!("serviceWorker" in navigator)) return false;
  // On `make page`'s own server it is not needed, and would stay for whatever uses that port later.
  if (self.crossOriginIsolated && location.hostname === "localhost") return false;
  try {
    await navigator.serviceWorker.register("sw.js");
    if (!navigator.serviceWorker.controller) {
      await new Promise((done) => {
        navigator.serviceWorker.addEventListener("controllerchange", done, { once: true });
        setTimeout(done, 3000); // where it does not start, the page does without
      });
    }
  } catch (error) {
    console.warn(`no service worker, so not offline: ${error.message}`);
    return false;
  }
  const once = "loaded again for the headers";
  const helps = navigator.serviceWorker.controller && !self.crossOriginIsolated;
  if (!helps || sessionStorage.getItem(once)) return false;
  sessionStorage.setItem(once, "yes");
  return true;
}

async function start() {
  divide(0.3);
  if (await serviceWorker()) return location.reload();
  const answer = await fetch("models.json");
  if (!answer.ok) throw new Plain("models.json is not there: make the page with `make page`.");
  list = await answer.json();
  for (const entry of list.models) {
    entry.key = entry.file;
    const option = new Option(`${entry.name}, ${entry.precision}, ${mb(entry.bytes)}`, entry.key);
    $("model").append(option);
  }
  list.samples.forEach((file, i) => add({ name: `drawn scene ${i + 1}`, kind: "picture", file }));
  gpu = await navigator.gpu?.requestAdapter().catch(() => null);
  const best = gpu?.features.has("shader-f16") ? "fp16" : "int8"; // int8 has no kernels for WebGPU
  const named = list.models.find(({ key }) => `#${key}` === location.hash); // a link may name one
  startWorker();
  useModel(named ?? list.models.find(({ precision }) => precision === best) ?? list.models[0]);
  await choose(items[0]);
}

start().catch(show);
