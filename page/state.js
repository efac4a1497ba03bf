// What the page knows, and the ways in which it changes. No DOM.
//
// What is asked for is a request. The newest counts: whatever still comes of others is dropped.
//
//   a picture          reading -> labelling -> done
//   a video, a camera  reading -> done; its frames are labelled until something else is shown
//   other controls     labelling -> done, with the picture that the worker has
//
// An error makes a request done, too. While one is reading, other controls make none: what is read
// will be labelled as they then say. An error that may have broken the worker ends it: the next one
// has no picture and no network, and loads the last network again.

export const state = {
  list: null, // models.json, once the page has started
  gpu: null, // WebGPU's adapter, if there is one
  network: null, // {entry, classes, fixed, device, seconds}: the last that was loaded
  isLoaded: false, // whether the worker has it
  held: null, // the picture that the worker has: {item, width, height}
  request: { phase: "done" }, // the newest
  items: [], // of the gallery: {name, kind: "picture" | "video" | "camera", blob or file, button}
  current: null, // the item that is shown
  result: null, // the worker's answer for it; isOld: the controls changed since it was asked for
  live: null, // what ends the video or camera that is open: an AbortController, with its item
  recording: null, // {canvas, stem, end} while the overlay is recorded
};

const set = (changes) => Object.assign(state, changes);

export const request = (phase) => set({ request: { phase } }).request;
export const isWanted = (mine) => mine === state.request;
export const isHeld = () => state.held?.item === state.current;
export const needsLabels = () => state.result?.isOld ?? true;

/** An item, which can be shown, takes the place of the one before. */
export const begin = (item) => set({ current: Object.assign(item, { wasShown: true }), held: null, result: null });
/** The worker gets a picture of the current item. */
export const hold = ({ width, height }) => set({ held: { item: state.current, width, height } });
export const labelled = (answer) => set({ result: { ...answer, isOld: false } });
export const controlsChanged = () => set({ result: state.result && { ...state.result, isOld: true } });
/** The labels that are shown are not of this network's classes. */
export const networkLoaded = (entry, about) => set({ network: { entry, ...about }, isLoaded: true, result: null });
export const workerEnded = () => set({ isLoaded: false, held: null });
