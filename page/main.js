// The page: how it starts, what comes in, and its controls.
import { Plain, kindOf } from "./files.js";
import { endRecording } from "./keep.js";
import { $, make, mb, showError } from "./messages.js";
import { use } from "./network.js";
import { choose, labelAgain, open, relabel, showPlay } from "./open.js";
import { divide } from "./pointer.js";
import { state } from "./state.js";
import { layer, paint } from "./view.js";

async function take(files) {
  if (!state.list && !(await started)) return;
  $("error").hidden = true;
  const items = [];
  for (const file of files) {
    const kind = kindOf(file);
    if (kind === "model") await useOwnModel(file);
    else items.push(add({ name: file.name || "pasted picture", kind, blob: file }));
  }
  if (items.length) open(items[0]);
}

/** A file in the gallery; returns it. */
function add(item) {
  const isPicture = item.kind === "picture";
  const src = isPicture && (item.file ?? URL.createObjectURL(item.blob));
  const image = isPicture ? make("img", { alt: "", src }) : make("i", {}, "▶");
  image.onerror = () => image.replaceWith(make("i"));
  image.onload = () => URL.revokeObjectURL(src);
  item.button = make("button", { type: "button", onclick: () => choose(item) }, image, make("span", {}, item.name));
  $("gallery").append(make("li", {}, item.button));
  state.items.push(item);
  return item;
}

async function useOwnModel(file) {
  const entry = { key: `own ${file.name}`, name: file.name, licence: "as its owner says", blob: file };
  await useAndShow(entry);
  if (state.network?.entry !== entry) return;
  const known = state.list.models.find(({ key }) => key === entry.key);
  if (known) return Object.assign(known, entry); // a newer file of this name
  state.list.models.push(entry);
  $("model").append(new Option(`${file.name}, yours`, entry.key));
  $("model").value = entry.key;
}

async function useAndShow(entry) {
  await use(entry);
  if (state.current && (state.network?.entry === entry || !state.result)) relabel();
}

let facing = "environment";

$("choose").onchange = ({ target }) => {
  take([...target.files]);
  target.value = ""; // so that the same file can be chosen again
};
$("camera").onclick = async () => {
  if (state.list || (await started)) choose({ name: "camera", kind: "camera", facing });
};
$("turn").onclick = () => {
  facing = facing === "user" ? "environment" : "user";
  choose({ name: "camera", kind: "camera", facing });
};
$("play").onclick = async () => {
  const video = $("video");
  if (!state.live) return choose(state.current); // it was ended by an error
  if (!video.paused && !video.ended) video.pause();
  else await video.play().catch((error) => error.name === "AbortError" || showError(error)); // paused at once
  showPlay();
};
for (const event of ["play", "pause", "ended"]) $("video").addEventListener(event, showPlay);
$("video").onpause = labelAgain; // with how sure it is, for the pointer
$("video").onended = endRecording;
$("seek").oninput = ({ target }) => {
  const { duration } = $("video");
  if (duration < Infinity) $("video").currentTime = (target.valueAsNumber / 1000) * duration;
};
$("model").onchange = ({ target }) => {
  $("error").hidden = true;
  useAndShow(state.list.models.find(({ key }) => key === target.value));
};
for (const input of document.querySelectorAll("input[name=layer], #outlines")) {
  input.onchange = () => {
    if (layer() === "sure" && state.result && !state.result.sure) labelAgain();
    paint();
  };
}
$("opacity").oninput = ({ target }) => {
  target.nextElementSibling.value = `${target.value} %`;
  paint();
};
$("megapixels").oninput = ({ target: { valueAsNumber, nextElementSibling } }) => {
  nextElementSibling.value = `${valueAsNumber.toFixed(2)} MP`;
};
$("megapixels").onchange = () => {
  $("error").hidden = true;
  if (state.current) relabel();
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

/** Show the networks and the samples, and open the first. Returns true unless the page is loaded again. */
async function start() {
  divide(0.3);
  if (await serviceWorker()) return location.reload();
  const gpu = navigator.gpu?.requestAdapter().catch(() => null);
  const answer = await fetch("models.json");
  if (!answer.ok) throw new Plain("models.json is not there: make the page with `make page`.");
  const list = await answer.json();
  state.gpu = await gpu;
  for (const entry of list.models) {
    entry.key = entry.file;
    $("model").append(new Option(`${entry.name}, ${entry.precision}, ${mb(entry.bytes)}`, entry.key));
  }
  state.list = list;
  list.samples.forEach((file, i) => add({ name: `drawn scene ${i + 1}`, kind: "picture", file }));
  const best = state.gpu?.features.has("shader-f16") ? "fp16" : "int8"; // int8 has no kernels for WebGPU
  const named = list.models.find(({ key }) => `#${key}` === location.hash); // a link may name one
  const first = (wanted) => list.models.find(({ precision }) => precision === wanted) ?? list.models[0];
  if (named) use(named);
  else use(first(best), first("int8"));
  choose(state.items[0]);
  return true;
}

const started = start().catch(showError); // a promise: true once the page can be used
