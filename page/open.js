// What is asked for: to show a picture, a video or the camera, and to label it.
import { Plain, decode } from "./files.js";
import { endRecording } from "./keep.js";
import * as live from "./live.js";
import { $, showError, working } from "./messages.js";
import * as network from "./network.js";
import { scaleFor } from "./pixels.js";
import { begin, controlsChanged, hold, isHeld, isWanted, labelled, needsLabels, request, state } from "./state.js";
import { KEPT, SHOWN, drawPicture, fit, layer, showItem, showResult } from "./view.js";

const again = new EventTarget(); // its event "again" asks to label a paused frame again

export const labelAgain = () => again.dispatchEvent(new Event("again"));

/** Open what the user asked for: an error of before is done with. */
export function choose(item) {
  $("error").hidden = true;
  return open(item);
}

/** Show a picture, a video or the camera. What cannot be shown leaves the one before. */
export const open = (item) => attempt(item, "reading", item.kind === "picture" ? read : play);

/** Label again what is shown, as the controls now say. */
export function relabel() {
  const item = state.current, isPicture = item.kind === "picture";
  controlsChanged();
  if (!isPicture && state.live) return labelAgain();
  if (state.request.phase === "reading") return; // what is read will be labelled as they then say
  return isPicture && isHeld() ? attempt(item, "labelling", labelHeld) : open(item);
}

/** Do what a new request asks for, of an item: `work(item, request)`. */
async function attempt(item, phase, work) {
  const mine = request(phase);
  const error = await work(item, mine).then(() => null, (why) => why);
  mine.phase = "done";
  if (!error) return;
  const isPlaying = state.live?.item === item; // also while something else is read
  if (isPlaying) stop();
  if (!isWanted(mine) && !(isPlaying && item === state.current)) return;
  if (!item.wasShown) { // and cannot be
    item.button?.parentElement.remove();
    state.items = state.items.filter((other) => other !== item);
  }
  showError(error);
  if (isWanted(mine) && state.current && item !== state.current && needsLabels()) relabel();
}

async function read(item, mine) {
  working("Reading the picture");
  if (!item.blob) {
    const answer = await fetch(item.file);
    if (!answer.ok) throw new Plain(`${item.file} is not there: make the page again with \`make page\`.`);
    item.blob = await answer.blob();
  }
  item.blob.name ??= item.name;
  const bitmap = await decode(item.blob);
  if (isWanted(mine)) {
    stop();
    begin(item);
    showItem();
    drawPicture(bitmap, KEPT);
    await network.free();
  }
  if (!isWanted(mine) || !hasNetwork()) return bitmap.close();
  mine.phase = "labelling";
  await label(bitmap);
}

async function labelHeld(item, mine) {
  await network.free();
  if (!isWanted(mine)) return;
  if (!isHeld()) return open(item); // the worker was started again
  if (hasNetwork()) await label(null);
}

function hasNetwork() {
  if (state.isLoaded) return true;
  working(null);
  if ($("error").hidden) showError(new Plain("No network is loaded: choose one above."));
  return false;
}

async function play(item, mine) {
  const video = $("video"), isCamera = item.kind === "camera";
  working(isCamera ? "Starting the camera" : "Reading the video");
  if (isCamera && state.current?.kind === "camera") stop(); // phones open one at a time
  const source = isCamera ? await live.camera(item.facing) : item.blob;
  if (!isWanted(mine)) return source.getTracks?.().forEach((track) => track.stop());
  stop();
  const { signal } = (state.live = Object.assign(new AbortController(), { item }));
  await live.open(video, source);
  if (!isWanted(mine)) return stop();
  begin(item);
  showItem();
  mine.phase = "done";
  const lost = (text) => item === state.current && showError(new Plain(text));
  video.onerror = () => lost(`${item.name} is damaged from here on: restore it from where it came.`);
  for (const track of source.getTracks?.() ?? []) {
    track.onended = () => lost("The camera is gone: connect it, and press Camera.");
  }
  let count = 0, skipped = 0;
  const times = [];
  await live.frames(video, signal, again, async (bitmap, missed) => {
    const copy = await createImageBitmap(bitmap); // to be drawn with its labels
    await network.free();
    if (signal.aborted || !hasNetwork()) return [bitmap, copy].forEach((one) => one.close());
    await label(bitmap, copy).finally(() => copy.close());
    if (signal.aborted) return;
    if (count++) skipped += missed;
    if (times.push(performance.now()) > 10) times.shift();
    const rate = (times.length - 1) / ((times.at(-1) - times[0]) / 1000);
    const speed = times.length > 1 ? `${rate.toFixed(1)} frames a second, ` : "";
    $("rate").value = `${speed}${count} labelled, ${skipped} skipped`;
    if (video.duration < Infinity) $("seek").value = (1000 * video.currentTime) / video.duration;
    showPlay();
  });
}

/** End the video or the camera that is open. */
function stop() {
  if (state.live) {
    state.live.abort();
    live.close($("video"));
    state.live = null;
  }
  endRecording();
  $("record").disabled = true;
  $("rate").value = "";
}

export function showPlay() {
  const { paused, ended } = $("video");
  $("play").textContent = ended ? "Play again" : paused ? "Play" : "Pause";
}

/** Label a bitmap, or the picture that the worker has; `frame`: a copy of a video's, to be drawn then. */
async function label(bitmap, frame = null) {
  const mine = state.request, item = state.current;
  if (bitmap) hold(bitmap);
  if (!frame) working("Labelling");
  const { width, height } = state.held;
  const scale = scaleFor(width, height, $("megapixels").valueAsNumber);
  const out = frame ? null : fit(state.held, SHOWN);
  const wantSure = !frame || $("video").paused || layer() === "sure" || !$("probe").hidden;
  const found = await network.label({ bitmap, scale, out, wantSure });
  if (!isWanted(mine) || item !== state.current) return;
  if (!found) return relabel(); // the worker was started again
  if (frame) drawPicture(frame, SHOWN);
  labelled(found);
  showResult(scale);
  working(null);
  const [all, alone] = [found.milliseconds.all, found.milliseconds.network].map((ms) => (ms / 1000).toFixed(2));
  if (!frame) $("status").textContent = `Labelled in ${all} s, the network alone ${alone} s.`;
  else if ($("status").textContent) $("status").textContent = "";
  $("stage").dataset.done = String(Number($("stage").dataset.done ?? 0) + 1); // for tests
}
