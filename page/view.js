// What is shown: the picture, its labels, the classes, and what the network is.
import { $, make } from "./messages.js";
import { probe } from "./pointer.js";
import { state } from "./state.js";

export const SHOWN = 2 ** 20; // most pixels of a shown label map; downloads have the picture's size
export const KEPT = 2 ** 22; // most pixels of the shown picture and of a downloaded overlay

let only = null; // the class that is shown alone

/** A size with a picture's proportions of at most `most` pixels: [height, width]. */
export function fit({ width, height }, most) {
  const scale = Math.min(Math.sqrt(most / (width * height)), 1);
  return [height, width].map((n) => Math.max(Math.round(n * scale), 1));
}

/** Set a canvas's size, unless it has it: that would clear the canvas. */
function resize(canvas, width, height) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
}

export const layer = () => document.querySelector("input[name=layer]:checked").value;

export function allowSaving(allowed) {
  $("save-labels").disabled = $("save-overlay").disabled = !allowed;
}

/** The current item, which has no labels yet. */
export function showItem() {
  const { current: { kind, button }, items } = state;
  Object.assign($("overlay"), { width: 1, height: 1 });
  $("overlay").setAttribute("aria-label", "No labels yet");
  for (const other of items) other.button.setAttribute("aria-current", String(other.button === button));
  $("live").hidden = $("record").disabled = kind === "picture";
  $("seek").hidden = kind === "camera";
  $("turn").hidden = kind !== "camera";
  allowSaving(false);
  probe();
}

export function drawPicture(bitmap, most) {
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
export function paint() {
  if (!state.result) return;
  const { labels, sure, width, height } = state.result;
  const canvas = $("overlay");
  resize(canvas, width, height);
  const alpha = Math.round(2.55 * $("opacity").valueAsNumber);
  const bySure = layer() === "sure" && sure;
  const colors = bySure ? SURE : state.network.classes.map(({ color }) => color);
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
  if (state.recording) compose(state.recording.canvas, 2); // H.264 takes even sizes alone
}

/** The picture under its labels, as the controls say, without the slider; cut to multiples of `step`. */
export function compose(canvas, step = 1) {
  const { width, height } = $("picture");
  resize(canvas, width - (width % step), height - (height % step));
  const context = canvas.getContext("2d");
  context.drawImage($("picture"), 0, 0);
  context.drawImage($("overlay"), 0, 0, width, height);
  return canvas;
}

/** A network, with which nothing is labelled yet. */
export function showNetwork() {
  const { entry, fixed, seconds, device } = state.network;
  $("model").value = entry.key;
  $("megapixels").disabled = Boolean(fixed);
  drawLegend();
  probe();
  const { name, threads, refused } = device;
  const one = self.crossOriginIsolated ? "" : ", one because this server does not send the headers for more";
  const { vendor, architecture } = state.gpu?.info ?? {};
  const chip = [vendor, architecture].filter(Boolean).join(" ");
  const where =
    name === "webgpu"
      ? `Runs on the graphics processor by WebGPU${chip ? ` (${chip})` : ""}.`
      : `Runs on the processor by WebAssembly with ${threads} thread${threads > 1 ? "s" : ""}${one}.`;
  const why = refused ? " WebGPU is there, but did not label as WebAssembly does." : "";
  const what = `${entry.name}, ${entry.precision ?? "yours"}, ready after ${seconds.toFixed(1)} s`;
  $("device").textContent = `${where}${why} Network: ${what}.`;
  $("licence").textContent = `Licence of the network: ${entry.licence}.`;
}

function drawLegend() {
  only = null;
  const rows = state.network.classes.map(({ name, color }, index) => {
    const patch = make("i");
    patch.style.background = `rgb(${color.join()})`;
    const button = make("button", { type: "button" }, patch, make("span", {}, name), make("b"));
    button.setAttribute("aria-pressed", "false");
    button.onclick = () => {
      only = only === index ? null : index;
      rows.forEach(({ firstChild }, i) => firstChild.setAttribute("aria-pressed", String(i === only)));
      paint();
    };
    return make("li", {}, button);
  });
  $("legend").replaceChildren(...rows);
}

const percentText = (part) => (part && part < 0.001 ? "< 0.1 %" : `${(100 * part).toFixed(1)} %`);

/** The labels of the current item, and what is known of them, with the scale that they were made at. */
export function showResult(scale) {
  const { result, network } = state;
  paint();
  probe();
  const frequencies = network.classes.map((_, i) => result.counts[i] / result.labels.length);
  [...$("legend").children].forEach((row, i) => {
    row.querySelector("b").textContent = percentText(frequencies[i]);
    row.querySelector("button").classList.toggle("absent", !frequencies[i]);
  });
  const most = frequencies.map((part, i) => [part, network.classes[i].name]).sort(([a], [b]) => b - a);
  const words = most.slice(0, 5).filter(([part]) => part >= 0.001);
  const text = words.map(([part, name]) => `${name} ${percentText(part)}`).join(", ");
  $("overlay").setAttribute("aria-label", `Labels of ${state.current.name}: ${text}`);
  document.querySelector("input[name=layer][value=sure]").disabled = !result.hasSure;
  const [h, w] = result.seen;
  $("seen").textContent = network.fixed
    ? `This network takes ${w} × ${h} pixels, whatever the picture's size.`
    : `The network sees ${w} × ${h} pixels (predict.py --scale ${scale}).`;
  allowSaving(true);
}
