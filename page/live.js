// Videos and the camera: frames are labelled as fast as the network can, others are skipped.
import { Plain } from "./files.js";

/** Play a file or the camera's stream in `video`. Throws `Plain`, with the cure, if it does not. */
export async function open(video, source) {
  const isFile = source instanceof Blob;
  video.srcObject = isFile ? null : source;
  if (isFile) video.src = URL.createObjectURL(source);
  video.play().catch(() => {}); // iOS loads no frame before; where it is refused, the button starts it
  try {
    await new Promise((done, fail) => {
      video.onloadeddata = done;
      video.onerror = fail;
    });
    if (!video.videoWidth) throw new Error("only sound");
  } catch {
    close(video);
    throw new Plain(
      `${source.name || "The camera's stream"} cannot be played by this browser: convert it to ` +
        "MP4 with H.264 (ffmpeg -i VIDEO -c:v libx264 -pix_fmt yuv420p video.mp4).",
    );
  }
  video.onerror = null;
}

export function close(video) {
  video.pause();
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
  if (video.src) URL.revokeObjectURL(video.src);
  video.removeAttribute("src");
  video.load();
}

/** The camera's stream; facing: "environment" (back) or "user" (front). Throws `Plain`. */
export async function camera(facing) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Plain("The camera is only given to pages over https:// or from localhost.");
  }
  try {
    const video = { facingMode: facing, width: { ideal: 1280 }, height: { ideal: 720 } };
    return await navigator.mediaDevices.getUserMedia({ video, audio: false });
  } catch (error) {
    const why = {
      NotAllowedError: "The camera was not allowed: allow it for this page in the browser's address bar.",
      NotFoundError: "There is no camera: connect one, or choose a picture or a video.",
      NotReadableError: "The camera is in use by another program: close that, and try again.",
    };
    throw new Plain(why[error.name] ?? `The camera does not start (${error.message}).`);
  }
}

/**
 * Hand each frame that there is time for to `handle(bitmap)`, until `signal` is aborted.
 *
 * While the video is paused, its frame is handled again at each event "again" of `again`.
 * `handle` also gets the number of frames that were skipped since the last one.
 */
export async function frames(video, signal, again, handle) {
  let before = 0;
  while (!signal.aborted) {
    const next = nextFrame(video, signal, again); // also what comes while this one is handled
    const bitmap = await createImageBitmap(video).catch(() => null); // none while it seeks
    if (bitmap) {
      const shown = video.getVideoPlaybackQuality?.().totalVideoFrames ?? before + 1;
      const skipped = Math.max(shown - before - 1, 0);
      before = shown;
      await handle(bitmap, skipped);
    }
    await next;
  }
}

function nextFrame(video, signal, again) {
  const end = new AbortController(), once = { once: true, signal: end.signal };
  const next = new Promise((done) => {
    signal.addEventListener("abort", done, once);
    again.addEventListener("again", done, once);
    if (video.requestVideoFrameCallback) return video.requestVideoFrameCallback(done);
    for (const event of ["seeked", "play"]) video.addEventListener(event, done, once);
    if (!video.paused) requestAnimationFrame(done);
  });
  return next.finally(() => end.abort());
}

/** Record a canvas until the function that is returned is called, which gives a Blob. */
export function record(canvas) {
  const types = ["video/mp4;codecs=avc1", "video/webm;codecs=vp9", "video/webm;codecs=vp8", "video/webm"];
  const mimeType = self.MediaRecorder && types.find((type) => MediaRecorder.isTypeSupported(type));
  if (!mimeType) throw new Plain("This browser cannot record a video: use another, or predict.py.");
  const recorder = new MediaRecorder(canvas.captureStream(), { mimeType, videoBitsPerSecond: 8e6 });
  const parts = [];
  const stopped = new Promise((done) => (recorder.onstop = done)); // also after an error of its own
  recorder.ondataavailable = ({ data }) => parts.push(data);
  recorder.start(1000);
  return async () => {
    if (recorder.state !== "inactive") recorder.stop();
    await stopped;
    return new Blob(parts, { type: mimeType.split(";")[0] });
  };
}
