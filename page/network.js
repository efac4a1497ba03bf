// The network: it runs in worker.js, one call after the other.
import { Plain } from "./files.js";
import { $, mb, showError, working } from "./messages.js";
import { networkLoaded, state, workerEnded } from "./state.js";
import { allowSaving, showNetwork } from "./view.js";

let worker; // started by the first call
let calls = 0;
const waiting = new Map(); // calls without an answer, by their number
let ready; // a promise: the network that was asked for is loaded, or an error was shown
let busy; // the promise of the labels that were asked for last

/** The worker's answer; null where an error in another call ended the worker before it began. */
function call(name, data = {}, transfer = [], onProgress) {
  worker ??= startWorker();
  return new Promise((done, fail) => {
    waiting.set(++calls, { done, fail, onProgress });
    worker.postMessage({ id: calls, call: name, ...data }, transfer);
  });
}

function startWorker() {
  const started = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  started.onmessage = ({ data: { id, answer, error, progress } }) => {
    if (!waiting.has(id)) return;
    if (progress) return waiting.get(id).onProgress?.(progress);
    if (error) return failed(id, error);
    waiting.get(id).done(answer);
    waiting.delete(id);
  };
  started.onerror = ({ message }) => {
    if (started !== worker) return; // it was ended, and this is another of its errors
    const [oldest] = waiting.keys(); // what it was doing; the other calls had not begun
    failed(oldest, { kind: "unknown", message: message || "The worker stopped." });
  };
  return started;
}

/** A call failed. After an error of memory or of the runtime a new worker takes over. */
function failed(id, { kind, message }) {
  const { fail } = waiting.get(id) ?? { fail: showError };
  waiting.delete(id);
  fail(Object.assign(kind === "plain" ? new Plain(message) : new Error(message), { kind }));
  if (kind === "plain") return;
  worker.terminate();
  worker = null;
  for (const { done } of waiting.values()) done(null); // not begun: to be asked for again
  waiting.clear();
  const last = state.isLoaded && state.network.entry; // else it broke as it was loaded: it is given up
  workerEnded();
  allowSaving(false);
  if (last) use(last);
}

/**
 * Load a network, an entry of models.json, and then `other`, if there is one, where WebGPU is refused.
 *
 * If it does not load, an error is shown, and the last one stays.
 */
export function use(entry, other) {
  const isRefused = () => ready === mine && state.network.device.refused;
  const mine = load(entry).then(() => other && isRefused() && load(other)).catch(async (error) => {
    showError(error, entry);
    if (ready !== mine) await ready; // the last one is loaded again
    $("model").value = state.isLoaded ? state.network.entry.key : "";
  });
  return (ready = mine);
}

async function load(entry) {
  working(`Loading ${entry.name}`);
  const tell = ({ done, total }) =>
    done === null
      ? working(`Starting ${entry.name}`)
      : working(`Loading ${entry.name}, ${mb(done)} of ${mb(total)}`, done / total);
  const request = { model: entry, runtimes: state.list.runtimes, gpu: Boolean(state.gpu) };
  const about = await call("load", request, [], tell);
  if (!about) return use(entry);
  networkLoaded(entry, about);
  working(null);
  $("status").textContent = "";
  showNetwork();
}

/** Wait for the network, and for the picture that it labels, so that no queue of them forms. */
export async function free() {
  await ready;
  await busy?.catch(() => {});
  await ready; // which that may have broken
}

/** The worker's answer for {bitmap, scale, out, wantSure}; without a bitmap for the one that it has. */
export const label = (request) => (busy = call("label", request, request.bitmap ? [request.bitmap] : []));

/** The label map that was made last, of the picture's size, as {blob}, a PNG. */
export const save = () => call("save");
