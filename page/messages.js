// Elements of the page, and what it tells the user: that it works, and what went wrong.
import { Plain } from "./files.js";
import { state } from "./state.js";

export const $ = (id) => document.getElementById(id);

/** An element with some properties, around others. */
export function make(tag, properties, ...inside) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...inside);
  return element;
}

export const mb = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

/** Say what is done now, with the fraction of it that is done, if that is known; null: nothing. */
export function working(text, fraction) {
  $("working").hidden = text === null;
  $("stage").setAttribute("aria-busy", String(text !== null));
  $("working").querySelector("span").textContent = text ?? "";
  if (fraction) $("progress").value = fraction;
  else $("progress").removeAttribute("value");
  if (text !== null && !fraction) $("status").textContent = text; // which screen readers read out
}

/** An error in words; `from` is the item or network that it was about. */
export function showError(error, from = state.current) {
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
