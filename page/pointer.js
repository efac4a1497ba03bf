// Pointer and keys on the picture: the class at a point, and the divider of before and after.
import { $ } from "./messages.js";
import { state } from "./state.js";

const clamp = (value) => Math.min(Math.max(value, 0), 1);
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

let point = null; // 0..1, 0..1

/** Show the class under a point, if there is one, and how probable it is. */
export function probe(at = point) {
  point = at;
  $("probe").hidden = $("cross").hidden = !point || !state.result;
  if (!point || !state.result) return;
  const { labels, sure, width, height } = state.result;
  const [x, y] = [point.x * width, point.y * height].map(Math.floor);
  const pixel = Math.min(y, height - 1) * width + Math.min(x, width - 1);
  const probability = sure ? `, ${Math.round(sure[pixel] / 2.55)} %` : "";
  $("probe").value = `${state.network.classes[labels[pixel]]?.name ?? "no class"}${probability}`;
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

/** Show the part of the picture left of a position, 0 to 1, without labels. */
export function divide(position) {
  const percent = Math.round(100 * clamp(position));
  $("divider").style.left = `${percent}%`;
  $("divider").setAttribute("aria-valuenow", percent);
  $("divider").setAttribute("aria-valuetext", `${percent} % of the picture without labels`);
  $("overlay").style.clipPath = `inset(0 0 0 ${percent}%)`;
}

for (const name of ["pointermove", "pointerdown"]) $("stage").addEventListener(name, (event) => probe(place(event)));
for (const name of ["pointerleave", "blur"]) $("stage").addEventListener(name, () => probe(null));
$("stage").addEventListener("keydown", (event) => {
  if (!ARROWS[event.key] || event.target !== $("stage")) return;
  event.preventDefault();
  const [dx, dy] = ARROWS[event.key], step = event.shiftKey ? 0.1 : 0.01;
  const { x, y } = point ?? { x: 0.5, y: 0.5 };
  probe({ x: clamp(x + dx * step), y: clamp(y + dy * step), byKeys: true });
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
