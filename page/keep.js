// What can be kept: the label map, the overlay, and a recording of it.
import { record } from "./live.js";
import { $, make, showError } from "./messages.js";
import { save } from "./network.js";
import { state } from "./state.js";
import { compose } from "./view.js";

function download(blob, name) {
  const href = URL.createObjectURL(blob);
  make("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60000);
}

const stem = () => state.current.name.replace(/\.[^.]*$/, "").replace(/[^\w.-]+/g, "-") || "picture";

$("save-labels").onclick = async () => {
  const name = `${stem()}_labels.png`; // another picture may be current once it is made
  const answer = await save().catch(showError);
  if (answer) download(answer.blob, name);
};

$("save-overlay").onclick = () => {
  const name = `${stem()}_overlay.jpg`;
  compose(make("canvas")).toBlob((blob) => download(blob, name), "image/jpeg", 0.92);
};

$("record").onclick = () => (state.recording ? endRecording() : startRecording().catch(showError));

async function startRecording() {
  const canvas = compose(make("canvas"), 2), video = $("video");
  state.recording = { canvas, stem: stem(), end: record(canvas) };
  $("record").textContent = "Stop and download";
  if (state.current.kind === "video" && (video.ended || video.paused)) $("play").click();
}

/** End the recording, if there is one, and download it. */
export async function endRecording() {
  if (!state.recording) return;
  const { end, stem } = state.recording;
  state.recording = null;
  $("record").textContent = "Record overlay";
  const blob = await end();
  download(blob, `${stem}_overlay.${blob.type.split("/")[1]}`);
}
