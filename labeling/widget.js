// The labelling widget: it draws, and turns pointer and key events into strokes. The kernel holds
// the masks (labeling/session.py); the widget has a copy of the open photograph's mask, so that a
// stroke is drawn at once. A stroke is sent as runs of pixels [start, length, id], and stays in this
// browser's storage until the kernel reports that it is on disk.

const OPEN = 512; // shown where nothing is labelled or proposed; a proposed id has 256 added
const PROPOSED = -1; // the class "as proposed"
const TOOLS = [
  ["fill", "f", "Fill the segment under the pointer; drag over several; with Shift the whole region that the network gives one class"],
  ["brush", "b", "Paint; [ and ] change the size"],
  ["polygon", "p", "Click the corners; Enter or a double click closes, Escape gives up"],
  ["erase", "e", "Back to not labelled"],
  ["pick", "i", "Take the class under the pointer (or hold Alt)"],
];

function render({ model, el }) {
  const labeler = new Labeler(model, el);
  return () => labeler.close();
}

export default { render };

// An element with attributes, listeners (on...) and children.
function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

// The bytes that zlib compressed.
async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// A copy of a message's buffer, so that it is aligned for wider numbers.
const bytesOf = (view) =>
  new Uint8Array(view.buffer ? view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength) : view);

// Give the pixels of a stroke's runs their ids.
function putRuns(mask, runs) {
  for (let i = 0; i < runs.length; i += 3) mask.fill(runs[i + 2], runs[i], runs[i] + runs[i + 1]);
}

// The pixels of each id in a mask.
function countIds(mask) {
  const counts = new Float64Array(256);
  for (const id of mask) counts[id]++;
  return counts;
}

// Extend a box [left, top, right, bottom], the last two exclusive, to a pixel.
function include(box, x, y) {
  if (x < box[0]) box[0] = x;
  if (y < box[1]) box[1] = y;
  if (x >= box[2]) box[2] = x + 1;
  if (y >= box[3]) box[3] = y + 1;
}

class Labeler {
  constructor(model, el) {
    this.model = model;
    this.tool = "fill";
    this.selected = null; // an id, or PROPOSED
    this.radius = 8; // of the brush, in pixels of the photograph
    this.opacity = 0.55;
    this.threshold = 70; // per cent; where the network is less sure, nothing is proposed
    this.view = { scale: 1, x: 0, y: 0 }; // of the photograph on the canvas, in CSS pixels
    this.photo = null;
    this.corners = []; // of the polygon that is being drawn
    this.pointers = new Map(); // that are down: id -> position on the canvas
    this.number = 0; // of the last stroke
    this.id = Math.random().toString(36).slice(2); // of this view: a widget may have several, also in other tabs
    this.waiting = this.readJournal(); // number -> stroke that may not be on disk yet
    this.build(el);
    let before = Promise.resolve(); // messages are answered in order, though unpacking is async
    this.receive = (message, buffers) =>
      (before = before.then(() => this.answer(message, buffers)).catch((error) => this.fail(String(error))));
    model.on("msg:custom", this.receive);
    this.sizes = new ResizeObserver(() => this.resize());
    this.sizes.observe(this.canvas);
    this.writeJournal();
    for (const stroke of this.waiting.values()) this.sendStroke(stroke);
    this.send({ type: "hello" });
    this.clock = setInterval(() => this.showStatus(), 500);
  }

  close() {
    clearInterval(this.clock);
    this.sizes.disconnect();
    this.model.off("msg:custom", this.receive);
  }

  // ------------------------------------------------------------------ elements

  build(el) {
    const button = (text, title, onclick, more = {}) =>
      make("button", { type: "button", title, onclick, ...more }, text);
    const slider = (label, title, min, max, value, oninput) =>
      make("label", { title }, label, make("input", { type: "range", "aria-label": label, min, max, value, oninput }));
    const check = (label, title, onchange) =>
      make("label", { title }, make("input", { type: "checkbox", onchange }), label);

    this.tools = TOOLS.map(([name, key, title]) =>
      button(`${name} `, `${title} (${key})`, () => this.setTool(name), { "data-tool": name }));
    this.size = slider("size", "Of the brush, in pixels of the photograph ([ and ])", 1, 100, this.radius,
      (e) => { this.radius = +e.target.value; this.redraw(); });
    const sure = slider("sure", "Propose a label where the network is at least this sure; the rest stays open", 30, 100, this.threshold,
      (e) => { this.threshold = +e.target.value; this.paintAll(); });
    this.canvas = make("canvas", { "aria-label": "photograph and labels" });
    this.list = make("div", { class: "classes", role: "listbox", "aria-label": "classes" });
    this.photos = make("div", { class: "photos", "aria-label": "photographs" });
    this.status = make("span", { class: "status", role: "status" });
    this.note = make("span", { class: "note" });
    this.error = make("div", { class: "error", role: "alert", hidden: "" });
    this.doneButton = button("done ✓", "Mark this photograph as finished, and go to the next (Enter)",
      (e) => e.detail < 2 && this.done()); // a double click is one
    this.root = make("div", { class: "labeler", tabindex: 0, "data-lm-suppress-shortcuts": "true" },
      make("div", { class: "bar" }, ...this.tools, this.size,
        button("↶", "Undo (Ctrl+Z)", () => this.undo("undo"), { "aria-label": "undo" }),
        button("↷", "Redo (Ctrl+Shift+Z)", () => this.undo("redo"), { "aria-label": "redo" }),
        slider("labels", "How much the labels cover; hold H to see the photograph alone", 0, 100, 100 * this.opacity,
          (e) => { this.opacity = e.target.value / 100; this.redraw(); }),
        (this.outlines = check("outlines", "Draw the labels' outlines only (O)", () => this.paintAll())),
        (this.keep = check("keep labels", "Change only what is not labelled yet (K)", () => {})),
        sure, button("take proposal", "Accept the proposed labels, which are hatched (A)", () => this.takeProposal()),
        button("fit", "Show the whole photograph (Z); the wheel zooms, Space or another mouse button moves it", () => this.fit())),
      this.error,
      make("div", { class: "main" }, this.canvas, make("div", { class: "side" }, this.list, this.photos)),
      make("div", { class: "bar" },
        button("←", "The photograph before (←)", () => this.go(-1), { "aria-label": "previous" }),
        button("→", "The next photograph (→)", () => this.go(1), { "aria-label": "next" }),
        this.doneButton, this.status, this.note));
    el.append(this.root);
    this.context = this.canvas.getContext("2d");
    const pointer = { down: "down", move: "move", up: "up", cancel: "up", leave: "leave" };
    for (const [name, method] of Object.entries(pointer))
      this.canvas.addEventListener(`pointer${name}`, (e) => this[method](e));
    this.canvas.addEventListener("dblclick", () => this.corners.length && this.fillPolygon());
    this.canvas.addEventListener("wheel", (e) => this.wheel(e), { passive: false });
    this.canvas.addEventListener("contextmenu", (e) => e.preventDefault());
    this.root.addEventListener("keydown", (e) => this.key(e));
    this.root.addEventListener("keyup", (e) => this.keyUp(e));
    this.root.addEventListener("focusin", (e) => (this.tabbed = e.target !== this.root && e.target.matches(":focus-visible")));
    this.root.addEventListener("focusout", (e) => {
      if (this.root.contains(e.relatedTarget)) return;
      this.hidden = this.space = false;
      this.redraw();
    });
    this.setTool("fill");
  }

  setTool(name) {
    this.tool = name;
    this.corners = [];
    this.hover = null;
    for (const each of this.tools) each.setAttribute("aria-pressed", each.dataset.tool === name);
    this.redraw();
  }

  select(id) {
    this.selected = id;
    this.showClasses();
  }

  showClasses() {
    if (!this.photo) return;
    const { classes, width, height, counts } = this.photo;
    const row = (id, key, name, color, share) =>
      make("div", { role: "option", class: "class", "data-id": id, "aria-selected": id === this.selected, onclick: () => this.select(id) },
        make("span", { class: "swatch", style: color ? `background:rgb(${color})` : "" }),
        make("kbd", {}, key), make("span", { class: "name" }, name), make("span", { class: "share" }, share));
    const percent = (n) => n ? `${(100 * n / (width * height)).toFixed(1)}%` : "";
    const keys = (i) => (i < 10 ? `${(i + 1) % 10}` : i < 20 ? `⇧${(i + 1) % 10}` : "");
    const labelled = classes.reduce((sum, [id]) => sum + counts[id], 0);
    this.list.replaceChildren(
      ...(this.proposed || this.selected === PROPOSED ? [row(PROPOSED, "q", "as proposed", null, "")] : []),
      ...classes.map(([id, name, color], i) => row(id, keys(i), name, color, percent(counts[id]))),
      make("div", { class: "class" }, make("span", { class: "name" }, "not labelled"), make("span", { class: "share" }, percent(width * height - labelled))));
  }

  showPhotos(photos, at) {
    this.photos.replaceChildren(...photos.map(([name, labelled, done]) =>
      make("div", { class: "photo", title: name, "aria-current": name === at, onclick: () => this.send({ type: "go", to: name }) },
        make("span", { class: "mark" }, done ? "✓" : labelled ? "●" : "○"), name)));
    const current = this.photos.querySelector("[aria-current=true]");
    if (current && at !== this.listed) this.photos.scrollTop = current.offsetTop - this.photos.offsetTop;
    this.listed = at; // and is left where the user scrolled it to
    const finished = photos.filter(([, , done]) => done).length;
    this.count = `${photos.findIndex(([name]) => name === at) + 1} of ${photos.length}, ${finished} done`;
    const row = photos.find(([name]) => name === at);
    if (this.photo && this.photo.name === at) this.photo.done = row[2];
    this.doneButton.setAttribute("aria-pressed", !!row?.[2]);
    this.showStatus();
  }

  showStatus() {
    const n = this.waiting.size;
    const late = n && performance.now() - this.sentAt > 1500;
    const kept = this.isKept ? "kept in this browser" : "too many for this browser to keep: leave this tab and the kernel running";
    const saved = late ? `the kernel is busy: ${n} strokes wait, ${kept}` : n ? "saving" : "saved";
    this.status.textContent = this.photo ? `${this.count ?? ""} · ${this.photo.name} · ${saved}` : "waiting for the kernel";
    this.root.dataset.saved = n === 0; // for tests, as the next lines
    this.root.dataset.photo = this.photo?.name ?? "";
    this.root.dataset.ready = !!this.segments;
  }

  fail(text) {
    this.error.replaceChildren(make("span", {}, text), ...(this.waiting.size ? [
      make("button", { type: "button", onclick: () => this.save() }, "save again")] : []),
      make("button", { type: "button", "aria-label": "close", onclick: () => (this.error.hidden = true) }, "×"));
    this.error.hidden = false;
    this.isLeaving = false;
  }

  // ------------------------------------------------------------------ the kernel

  send(message, buffers) {
    if (!this.photo && !["hello", "stroke", "go"].includes(message.type)) return;
    if (message.type === "go" || message.type === "hello") this.asked = performance.now();
    try {
      this.model.send({ photo: this.photo?.name, view: this.id, ...message }, undefined, buffers);
    } catch (error) { // JupyterLab refuses to send to a kernel that has ended
      this.fail(`the kernel has ended (${error.message}): run this cell again, and all strokes are saved`);
    }
  }

  // The number tells `patch` which strokes the kernel has before the undo.
  undo(type) {
    this.send({ type, number: this.number });
  }

  sendStroke(stroke) {
    this.sentAt = performance.now();
    this.number = Math.max(this.number, stroke.number);
    const { number, photo, origin, runs } = stroke;
    this.send({ type: "stroke", number, photo, origin }, [runs.buffer]);
  }

  // Send again what is waiting: the kernel knows the strokes that it has, and writes them.
  save() {
    this.error.hidden = true;
    for (const stroke of this.waiting.values()) this.sendStroke(stroke);
  }

  // The strokes that other views kept, which may still be open, numbered anew. Each view has an
  // entry of its own, and the kernel puts a stroke of the same origin once.
  readJournal() {
    const data = `labeler ${this.model.get("journal")}`, kept = [];
    this.journal = `${data} ${this.id}`;
    try {
      for (const key of Object.keys(localStorage).filter((each) => each.startsWith(data))) {
        kept.push(...JSON.parse(localStorage.getItem(key)));
        localStorage.removeItem(key);
      }
    } catch (error) {
      console.warn(`strokes kept in this browser cannot be read: ${error}`);
    }
    return new Map(kept.map((s, i) => [i + 1, { ...s, number: i + 1, runs: Uint32Array.from(s.runs) }]));
  }

  writeJournal() {
    try {
      const kept = [...this.waiting.values()].map((s) => ({ ...s, runs: [...s.runs] }));
      if (kept.length) localStorage.setItem(this.journal, JSON.stringify(kept));
      else localStorage.removeItem(this.journal);
      this.isKept = true;
    } catch {
      this.isKept = false; // The storage is full. The kernel gets them, unless it ends before.
    }
    this.showStatus();
  }

  async answer(message, buffers) {
    if (message.type === "saved") {
      if (message.view !== this.id) return;
      for (const number of this.waiting.keys()) if (number <= message.number) this.waiting.delete(number);
      this.writeJournal();
    } else if (message.type === "error") this.fail(message.text);
    else if (message.type === "list") this.showPhotos(message.photos, message.at);
    else if (message.type === "photo") await this.open(message, ...buffers.map(bytesOf));
    else if (message.photo === this.photo?.name) {
      if (message.type === "stroke") return this.apply(message, new Uint32Array(bytesOf(buffers[0]).buffer));
      const maps = await Promise.all(buffers.map((b) => inflate(bytesOf(b))));
      if (message.type === "patch") this.patch(message, maps[0]);
      else this.offer(message, maps);
    }
  }

  async open(message, file, mask) {
    const bitmap = createImageBitmap(new Blob([file], { type: message.kind }));
    const photo = { ...message, name: message.photo };
    try {
      [photo.bitmap, photo.mask] = await Promise.all([bitmap, inflate(mask)]);
    } catch (error) {
      return this.fail(`this browser cannot show ${photo.name} (${error}): save it as JPEG or PNG`);
    }
    if (photo.bitmap.width !== photo.width || photo.bitmap.height !== photo.height)
      return this.fail(`this browser shows ${photo.name} turned or scaled: save it as PNG`);
    const { width, height, classes } = photo;
    // Of a large photograph, a small copy of both is drawn where it is not zoomed into.
    const step = Math.ceil(Math.max(width, height) / 1600), [w, h] = [Math.ceil(width / step), Math.ceil(height / step)];
    photo.small = await createImageBitmap(photo.bitmap, { resizeWidth: w, resizeHeight: h });
    if (this.box) this.end(); // the stroke that is being drawn on the photograph before
    this.putWaiting(photo, 0); // strokes that came after the kernel packed the mask
    this.photo?.bitmap.close();
    this.photo?.small.close();
    this.photo = photo; // from here on nothing is awaited, so that all is of one photograph
    this.isLeaving = false;
    this.error.hidden = true;
    Object.assign(this, { step, segments: null, proposed: null, regions: null, hover: null, corners: [], touched: null, box: null });
    this.note.textContent = message.model;
    photo.counts = countIds(photo.mask);
    photo.isClass = new Uint8Array(256);
    this.colors = new Uint32Array(256);
    for (const [id, , [r, g, b]] of classes) {
      photo.isClass[id] = 1;
      this.colors[id] = ((b << 16) | (g << 8) | r) >>> 0; // alpha is added as it is drawn
    }
    if (![PROPOSED, ...classes.map(([id]) => id)].includes(this.selected)) this.selected = classes[0][0];
    this.line = Math.max(1, Math.round(Math.max(width, height) / 1000)); // of outlines, in pixels
    this.labels = new OffscreenCanvas(width, height);
    this.smallLabels = new OffscreenCanvas(w, h);
    if (classes.some(([id]) => photo.counts[id])) this.paintAll();
    this.fit();
    this.showClasses();
    this.doneButton.setAttribute("aria-pressed", message.done);
    this.showStatus();
    this.draw();
    this.root.dataset.opened = Math.round(performance.now() - this.asked); // milliseconds
  }

  offer({ type, width, height }, maps) {
    this.small = { width, height }; // the size of segments and proposals
    const across = (n, m) => Uint32Array.from({ length: n }, (_, i) => Math.floor((i * m) / n));
    this.columns = across(this.photo.width, width);
    this.rows = across(this.photo.height, height);
    if (type === "proposal") {
      [this.proposed, this.sure] = maps;
      this.regions = new Uint32Array(maps[2].buffer);
      this.paintAll();
      this.showClasses();
    } else {
      this.segments = new Uint32Array(maps[0].buffer);
      this.showStatus();
    }
  }

  // Pixels that the kernel undid. `view` and `number`: whose undo it was, and after which stroke.
  patch({ start, view, number }, pixels) {
    this.photo.mask.set(pixels, start);
    this.putWaiting(this.photo, view === this.id ? number : 0);
    this.showAll();
  }

  // A stroke that was drawn in another view.
  apply({ view }, runs) {
    if (view === this.id || !runs.length) return;
    putRuns(this.photo.mask, runs);
    this.putWaiting(this.photo, 0); // which the kernel gets after it
    this.showAll();
  }

  // Put the strokes after a number, which the kernel may not have yet, on a photograph.
  putWaiting({ name, mask }, after) {
    for (const { number, photo, runs } of this.waiting.values())
      if (number > after && photo === name) putRuns(mask, runs);
  }

  // Count and draw all labels again.
  showAll() {
    this.photo.counts = countIds(this.photo.mask);
    this.paintAll();
    this.showClasses();
  }

  go(step) {
    this.send({ type: "go", step });
  }

  // A press while the next photograph is on its way is not for the one that is still shown.
  done() {
    if (!this.photo || this.isLeaving) return;
    const done = !this.photo.done;
    this.isLeaving = done; // until a photograph is here, or an error
    this.send({ type: "done", done });
    if (done) this.go(1);
  }

  // ------------------------------------------------------------------ drawing

  // What is shown at a pixel: a labelled id, 256 plus a proposed id, or OPEN.
  shown(i, x, y) {
    const id = this.photo.mask[i];
    if (this.photo.isClass[id]) return id;
    if (!this.proposed) return OPEN;
    const at = this.at(x, y);
    const proposed = this.proposed[at];
    return this.sure[at] >= this.threshold && this.photo.isClass[proposed] ? 256 + proposed : OPEN;
  }

  paintAll() {
    if (this.labels) this.paint(0, 0, this.photo.width, this.photo.height);
  }

  // Draw the labels of a rectangle again, and of the pixels up to a line's width left and above it.
  paint(x0, y0, x1, y1) {
    const { width, height } = this.photo, line = this.line;
    [x0, y0] = [Math.max(x0 - line, 0), Math.max(y0 - line, 0)];
    const [right, bottom] = [Math.min(x1 + line, width), Math.min(y1 + line, height)];
    const w = right - x0, values = new Uint16Array(w * (bottom - y0));
    for (let y = y0, at = 0; y < bottom; y++)
      for (let x = x0; x < right; x++) values[at++] = this.shown(y * width + x, x, y);
    const image = new ImageData(x1 - x0, y1 - y0), pixels = new Uint32Array(image.data.buffer);
    const only = this.outlines.firstChild.checked, hatch = 7 * line;
    for (let y = y0, to = 0; y < y1; y++) {
      for (let x = x0; x < x1; x++, to++) {
        const at = (y - y0) * w + x - x0, value = values[at];
        const across = values[x + line < right ? at + line : at];
        const below = values[y + line < bottom ? at + line * w : at];
        const edge = value !== across || value !== below;
        const inside = value !== OPEN ? value : across !== OPEN ? across : below;
        if (edge && this.proposed && (value === OPEN || across === OPEN || below === OPEN))
          pixels[to] = 0xff00d7ff; // gold: the border of an open area
        else if (only ? !edge : value === OPEN) continue;
        else if (value < 256 || edge) pixels[to] = this.colors[inside & 255] | 0xff000000;
        else pixels[to] = this.colors[value & 255] | ((x + y) % hatch < 2 * line ? 0xff000000 : 0x90000000);
      }
    }
    this.labels.getContext("2d").putImageData(image, x0, y0);
    if (this.step > 1) this.paintSmall(pixels, x0, y0, x1, y1);
    this.redraw();
  }

  // Subsample a rectangle of labels into the small copy. Drawing it from the large one would make
  // the browser copy that for each stroke.
  paintSmall(pixels, x0, y0, x1, y1) {
    const step = this.step, [left, top, right, bottom] = [x0, y0, x1, y1].map((n) => Math.ceil(n / step));
    if (left >= right || top >= bottom) return;
    const image = new ImageData(right - left, bottom - top), small = new Uint32Array(image.data.buffer);
    for (let y = top, to = 0; y < bottom; y++)
      for (let x = left; x < right; x++) small[to++] = pixels[(y * step - y0) * (x1 - x0) + x * step - x0];
    this.smallLabels.getContext("2d").putImageData(image, left, top);
  }

  redraw() {
    if (!this.frame) this.frame = requestAnimationFrame(() => { this.frame = null; this.draw(); });
  }

  draw() {
    const { context, canvas, photo, view } = this, ratio = canvas.width / canvas.clientWidth || 1;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!photo?.bitmap || !this.labels) return;
    const { scale, x, y } = view;
    context.setTransform(ratio * scale, 0, 0, ratio * scale, ratio * x, ratio * y);
    context.imageSmoothingEnabled = scale < 2;
    // Draw the visible part alone: the browser would scale the whole photograph.
    const left = Math.max(Math.floor(-x / scale), 0), top = Math.max(Math.floor(-y / scale), 0);
    const width = Math.min(Math.ceil((canvas.width / ratio - x) / scale), photo.width) - left;
    const height = Math.min(Math.ceil((canvas.height / ratio - y) / scale), photo.height) - top;
    if (width > 0 && height > 0) {
      const step = scale * ratio * this.step < 1.5 ? this.step : 1, part = [left, top, width, height];
      const from = part.map((n) => n / step);
      context.drawImage(step > 1 ? photo.small : photo.bitmap, ...from, ...part);
      context.globalAlpha = this.hidden ? 0 : this.opacity;
      context.drawImage(step > 1 ? this.smallLabels : this.labels, ...from, ...part);
      context.globalAlpha = 1;
    }
    this.drawMarks();
    canvas.dataset.view = `${scale} ${x} ${y}`;
    if (this.event) this.root.dataset.drawn = Math.round(performance.now() - this.event);
    this.event = null;
  }

  drawMarks() {
    const { context, photo } = this, pixel = 1 / this.view.scale;
    context.lineWidth = 2 * pixel;
    if (this.hover && this.tool === "fill") {
      const { image, x, y } = this.hover, { width, height } = this.small;
      context.globalAlpha = 0.35;
      context.drawImage(image, (x * photo.width) / width, (y * photo.height) / height,
        (image.width * photo.width) / width, (image.height * photo.height) / height);
      context.globalAlpha = 1;
    }
    context.strokeStyle = "#f33";
    context.fillStyle = "#f33";
    context.font = `${13 * pixel}px sans-serif`;
    for (const [x0, y0, x1, y1, text] of photo.boxes) {
      context.strokeRect(x0, y0, x1 - x0, y1 - y0);
      context.fillText(text ?? "", x0, y0 - 4 * pixel);
    }
    if (!this.pointer) return;
    const [x, y] = this.pointer;
    context.beginPath();
    if (this.tool === "brush" || this.tool === "erase") context.arc(x, y, this.radius, 0, 7);
    if (this.corners.length) for (const corner of [...this.corners, [x, y]]) context.lineTo(...corner);
    for (const [color, wide] of [["#000", 3], ["#fff", 1]]) {
      context.strokeStyle = color;
      context.lineWidth = wide * pixel;
      context.stroke();
    }
  }

  resize() {
    const { clientWidth, clientHeight } = this.canvas;
    if (!clientWidth) return;
    this.canvas.width = clientWidth * devicePixelRatio;
    this.canvas.height = clientHeight * devicePixelRatio;
    if (this.isWhole ?? true) this.fit();
    else this.redraw();
  }

  fit() {
    if (!this.photo || !this.canvas.clientWidth) return;
    const { clientWidth, clientHeight } = this.canvas, { width, height } = this.photo;
    const scale = Math.min(clientWidth / width, clientHeight / height);
    this.view = { scale, x: (clientWidth - width * scale) / 2, y: (clientHeight - height * scale) / 2 };
    this.isWhole = true; // and stays so when the widget's size changes
    this.redraw();
  }

  // Zoom about a point of the canvas, and move the photograph.
  zoom(factor, [x, y], [dx, dy] = [0, 0]) {
    const view = this.view, scale = Math.min(Math.max(view.scale * factor, 0.02), 60);
    const by = scale / view.scale;
    this.view = { scale, x: x - (x - view.x) * by + dx, y: y - (y - view.y) * by + dy };
    this.isWhole = false;
    this.redraw();
  }

  // ------------------------------------------------------------------ strokes

  // Begin a stroke; false, and a message, where its class is not known yet.
  begin(value = this.tool === "erase" ? this.photo.void : this.selected) {
    if (value === PROPOSED && !this.proposed) {
      this.fail("there is no proposal yet: wait until it is computed, or choose a class");
      return false;
    }
    const { width, height } = this.photo;
    this.touched ??= new Uint8Array(width * height);
    this.box = [width, height, 0, 0];
    this.value = value;
    return true;
  }

  // Give a pixel an id, and count the pixels of each id.
  setPixel(i, id) {
    const { mask, counts } = this.photo;
    counts[mask[i]]--;
    counts[(mask[i] = id)]++;
  }

  // Give a pixel the class of the stroke.
  put(x, y) {
    const { mask, width, isClass } = this.photo, i = y * width + x, before = mask[i];
    let value = this.value;
    if (value === PROPOSED) {
      value = this.proposed[this.at(x, y)];
      if (!isClass[value]) return;
    }
    if (before === value || (this.keep.firstChild.checked && isClass[before] && this.tool !== "erase")) return;
    this.setPixel(i, value);
    this.touched[i] = 1;
    include(this.box, x, y);
  }

  // Send the pixels that the stroke changed; false if there are none.
  end() {
    const { mask, width, name } = this.photo, [x0, y0, x1, y1] = this.box ?? [0, 0, 0, 0], runs = [];
    this.box = null;
    for (let y = y0; y < y1; y++) {
      for (let x = x0, i = y * width + x0; x < x1; x++, i++) {
        if (!this.touched[i]) continue;
        const start = i, value = mask[i];
        for (; x < x1 && this.touched[i] && mask[i] === value; x++, i++) this.touched[i] = 0;
        runs.push(start, i - start, value);
        x--, i--;
      }
    }
    if (!runs.length) return false;
    const number = this.number + 1, stroke = { number, origin: `${this.id} ${number}`, photo: name, runs: Uint32Array.from(runs) };
    this.waiting.set(stroke.number, stroke);
    this.writeJournal();
    this.sendStroke(stroke);
    this.showClasses();
    return true;
  }

  // The map that a pointer fills from: of segments, or with Shift of the network's regions.
  mapFor(e) {
    return (e.shiftKey && this.regions) || this.segments;
  }

  // The index in segments and proposals of a pixel of the photograph.
  at(x, y) {
    return this.rows[y] * this.small.width + this.columns[x];
  }

  // The pixel [x, y] of the photograph at a point, or null outside of it.
  pixelAt(point) {
    const [x, y] = point.map(Math.floor), { width, height } = this.photo;
    return x < 0 || y < 0 || x >= width || y >= height ? null : [x, y];
  }

  segmentAt(map, point) {
    const pixel = this.pixelAt(point);
    return pixel ? map[this.at(...pixel)] : -1;
  }

  // The box of a segment in its map (see `include`).
  boxOf(map, segment) {
    const { width, height } = this.small, box = [width, height, 0, 0];
    for (let y = 0, i = 0; y < height; y++)
      for (let x = 0; x < width; x++, i++) if (map[i] === segment) include(box, x, y);
    return box;
  }

  // Give the stroke's class to the pixels of a rectangle for which `inside` is true, and draw it.
  putWhere(x0, y0, x1, y1, inside) {
    const { width, height } = this.photo;
    [x0, y0] = [x0, y0].map((n) => Math.max(Math.floor(n), 0));
    [x1, y1] = [Math.min(Math.ceil(x1), width), Math.min(Math.ceil(y1), height)];
    if (x0 >= x1 || y0 >= y1) return;
    for (let y = y0; y < y1; y++) for (let x = x0; x < x1; x++) if (inside(x, y)) this.put(x, y);
    this.paint(x0, y0, x1, y1);
  }

  fillSegment(map, segment) {
    const [left, top, right, bottom] = this.boxOf(map, segment);
    const by = this.photo.width / this.small.width, down = this.photo.height / this.small.height;
    this.putWhere(left * by, top * down, right * by, bottom * down, (x, y) => map[this.at(x, y)] === segment);
  }

  // The pixels whose centre is at most the radius away from the line between two points.
  brushLine([ax, ay], [bx, by]) {
    const r = this.radius, [dx, dy] = [bx - ax, by - ay], length = dx * dx + dy * dy || 1;
    const isNear = (x, y) => {
      const [px, py] = [x + 0.5 - ax, y + 0.5 - ay];
      const t = Math.min(Math.max((px * dx + py * dy) / length, 0), 1);
      return (px - t * dx) ** 2 + (py - t * dy) ** 2 <= r * r;
    };
    this.putWhere(Math.min(ax, bx) - r, Math.min(ay, by) - r, Math.max(ax, bx) + r, Math.max(ay, by) + r, isNear);
  }

  // The pixels whose centre is inside, by the even-odd rule.
  fillPolygon() {
    const corners = this.corners;
    if (corners.length >= 3 && !this.begin()) return; // the corners stay
    this.corners = [];
    if (corners.length < 3) return this.redraw();
    let row = -1, cuts = []; // where the edges cross the row's middle
    const isInside = (x, y) => {
      if (y !== row) {
        cuts = [];
        row = y;
        corners.forEach(([ax, ay], i) => {
          const [bx, by] = corners[(i + 1) % corners.length], middle = y + 0.5;
          if (ay <= middle !== by <= middle) cuts.push(ax + ((middle - ay) / (by - ay)) * (bx - ax));
        });
      }
      return cuts.filter((at) => at <= x + 0.5).length % 2 === 1;
    };
    const xs = corners.map(([x]) => x), ys = corners.map(([, y]) => y);
    this.putWhere(Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys), isInside);
    this.end();
  }

  takeProposal() {
    if (!this.proposed) return;
    const { width, height } = this.photo;
    this.begin(PROPOSED);
    this.putWhere(0, 0, width, height, (x, y) => (this.shown(y * width + x, x, y) & 768) === 256);
    this.end();
  }

  pick(point) {
    const pixel = this.pixelAt(point);
    if (!pixel) return;
    const [x, y] = pixel, shown = this.shown(y * this.photo.width + x, x, y);
    if (shown !== OPEN) this.select(shown & 255);
  }

  // ------------------------------------------------------------------ pointer and keys

  // A pointer's position: `on` the canvas in CSS pixels, and `in` the photograph.
  positionOf(e) {
    const { left, top } = this.canvas.getBoundingClientRect(), { scale, x, y } = this.view;
    const on = [e.clientX - left, e.clientY - top];
    return { on, in: [(on[0] - x) / scale, (on[1] - y) / scale] };
  }

  down(e) {
    this.root.focus({ preventScroll: true });
    if (!this.photo?.mask) return;
    e.preventDefault();
    this.canvas.setPointerCapture(e.pointerId);
    const at = this.positionOf(e);
    this.pointers.set(e.pointerId, at.on);
    if (this.pointers.size === 2) { // two fingers move and zoom; the stroke that the first began is undone
      if (this.box && this.end()) this.undo("undo");
      this.box = null;
      this.corners.pop();
      return;
    }
    if (e.button > 0 || this.space) return void (this.moving = true);
    if (this.tool === "pick" || e.altKey) return this.pick(at.in);
    if (this.tool === "polygon") {
      this.pointer = at.in;
      this.corners.push(at.in);
      return this.redraw();
    }
    if (this.tool === "fill" && !this.segments) return this.fail("the segments are still being computed");
    if (!this.begin()) return;
    this.event ??= e.timeStamp;
    this.last = at.in;
    this.extend(at.in, this.mapFor(e));
  }

  // Continue the stroke to a point.
  extend(point, map) {
    if (this.tool !== "fill") this.brushLine(this.last, point);
    else {
      const segment = this.segmentAt(map, point);
      if (segment >= 0 && segment !== this.filled) this.fillSegment(map, (this.filled = segment));
    }
    this.last = point;
  }

  move(e) {
    if (!this.photo?.mask) return;
    const at = this.positionOf(e), before = this.pointers.get(e.pointerId);
    if (before) this.pointers.set(e.pointerId, at.on);
    const shift = before && [at.on[0] - before[0], at.on[1] - before[1]];
    if (before && this.pointers.size === 2) {
      const [other] = [...this.pointers].filter(([id]) => id !== e.pointerId).map(([, on]) => on);
      const distance = ([x, y]) => Math.hypot(x - other[0], y - other[1]);
      const middle = [(before[0] + other[0]) / 2, (before[1] + other[1]) / 2];
      return this.zoom(distance(at.on) / Math.max(distance(before), 1), middle, shift.map((n) => n / 2));
    }
    if (before && this.moving) return this.zoom(1, [0, 0], shift);
    this.pointer = at.in;
    if (this.box) this.event ??= e.timeStamp; // until when it is drawn
    if (this.box) for (const each of e.getCoalescedEvents?.() ?? []) this.extend(this.positionOf(each).in, this.mapFor(e));
    if (this.box) this.extend(at.in, this.mapFor(e));
    if (this.tool === "fill" && this.segments) this.showHover(at.in, this.mapFor(e));
    this.redraw();
  }

  showHover(point, map) {
    const segment = this.segmentAt(map, point);
    if (segment === this.hover?.segment && map === this.hover?.map) return;
    this.hover = null;
    if (segment < 0) return;
    const [left, top, right, bottom] = this.boxOf(map, segment), image = new OffscreenCanvas(right - left, bottom - top);
    const data = new ImageData(right - left, bottom - top), pixels = new Uint32Array(data.data.buffer);
    for (let y = top, to = 0; y < bottom; y++)
      for (let x = left; x < right; x++, to++)
        if (map[y * this.small.width + x] === segment) pixels[to] = 0xffffffff;
    image.getContext("2d").putImageData(data, 0, 0);
    this.hover = { map, segment, image, x: left, y: top };
  }

  up(e) {
    this.pointers.delete(e.pointerId);
    this.moving = false;
    this.filled = null;
    if (this.box) this.end();
  }

  leave() {
    this.pointer = this.hover = null;
    this.redraw();
  }

  wheel(e) {
    if (!this.photo) return;
    e.preventDefault();
    this.zoom(Math.exp(-e.deltaY * (e.deltaMode ? 0.05 : 0.0015)), this.positionOf(e).on);
  }

  resizeBrush(factor) {
    const radius = this.radius * factor;
    this.radius = Math.min(Math.max(factor > 1 ? Math.ceil(radius) : Math.floor(radius), 1), 400);
    this.size.lastChild.value = this.radius;
    this.redraw();
  }

  toggle(box) {
    box.firstChild.checked = !box.firstChild.checked;
    this.paintAll();
  }

  key(e) {
    if (e.key === "Enter" && e.repeat) return e.preventDefault(), e.stopPropagation(); // it is held
    const press = e.key === "Enter" || e.key === " ";
    if ((e.target.type === "range" && e.key.startsWith("Arrow")) || (press && this.tabbed))
      return e.stopPropagation(); // it is for the slider or the button that has the focus
    const step = { ArrowLeft: -1, ArrowRight: 1 }[e.key];
    if (step && !this.photo) return this.go(step); // past one that cannot be shown
    if (!this.photo?.mask) return;
    const tool = TOOLS.find(([, key]) => key === e.key), digit = /^Digit(\d)$/.exec(e.code);
    const actions = {
      a: () => this.takeProposal(), q: () => this.proposed && this.select(PROPOSED), z: () => this.fit(),
      o: () => this.toggle(this.outlines), k: () => this.toggle(this.keep),
      "[": () => this.resizeBrush(0.8), "]": () => this.resizeBrush(1.25),
      h: () => { this.hidden = true; this.redraw(); }, " ": () => (this.space = true),
      ArrowLeft: () => this.go(-1), ArrowRight: () => this.go(1),
      Escape: () => { this.corners = []; this.redraw(); },
      Backspace: () => { this.corners.pop(); this.redraw(); },
      Enter: () => (this.corners.length ? this.fillPolygon() : this.done()),
    };
    if (e.ctrlKey || e.metaKey) {
      const key = e.key.toLowerCase();
      if (key === "z" || key === "y") this.undo(key === "y" || e.shiftKey ? "redo" : "undo");
      else if (key !== "s") return; // all is saved: no dialog of the browser
    } else if (digit) {
      const row = this.photo.classes[((+digit[1] + 9) % 10) + (e.shiftKey ? 10 : 0)];
      if (row) this.select(row[0]);
    } else if (tool) this.setTool(tool[0]);
    else if (actions[e.key]) actions[e.key]();
    else return;
    e.preventDefault();
    e.stopPropagation();
  }

  keyUp(e) {
    if (e.key === "h") this.hidden = false;
    if (e.key === " ") this.space = false;
    this.redraw();
  }
}
