/** The page: settings, the queue of pictures, and their messages. Pictures are in a worker. */

import { Viewer } from "./viewer.mjs";

const SCALE_LABELS = { "0.5": "½×", 1: "1×", 2: "2×", 4: "4×" };
const SCALE_NAMES = { "0.5": "Half the size", 1: "Same size, cleaned", 2: "Twice the size", 4: "Four times the size" };
const TITLES = {
  "restore-x2": "Everyday photographs",
  "photo-x2": "Clean photographs",
  "restore-x4": "Everyday photographs",
  "photo-x4": "Clean photographs",
  denoise: "Noisy photographs",
  "shrink-x2": "Any photograph",
};
/** What models do, in a visitor's words. */
const ABOUT = {
  "restore-x2": "Twice as wide and high. It also removes noise and the traces of JPEG compression.",
  "photo-x2": "Twice as wide and high, for sharp pictures without noise that have been made smaller.",
  "restore-x4": "Four times as wide and high. It also removes traces of JPEG compression and noise, except coloured noise.",
  "photo-x4": "Four times as wide and high, for sharp pictures without noise that have been made smaller.",
  denoise: "The same size, without noise: for pictures taken in the dark, for example.",
  "shrink-x2": "Half as wide and high, so that “Clean photographs” can bring back more later.",
};
const EXTENSIONS = { "image/png": "png", "image/jpeg": "jpg", "image/webp": "webp" };
const QUALITY = 0.95;
const DEFAULT_MODEL = "restore-x2";

const element = (id) => document.getElementById(id);

/** The worker, as functions that return promises. */
class Pictures {
  constructor() {
    this.calls = new Map();
    this.count = 0;
    this.worker = new Worker(new URL("./pictures.mjs", import.meta.url), { type: "module" });
    this.worker.onmessage = ({ data }) => this.answered(data);
    this.worker.onerror = (event) => {
      event.preventDefault();
      for (const { reject } of this.calls.values()) reject(new Error("the browser has run out of memory"));
      this.calls.clear();
    };
  }

  /** @returns {Promise<any>} */
  call(action, parameters, progress = () => {}) {
    const call = this.count++;
    return new Promise((resolve, reject) => {
      this.calls.set(call, { resolve, reject, progress });
      this.worker.postMessage({ call, action, ...parameters });
    });
  }

  answered({ call, value, progress, error, aborted }) {
    const waiting = this.calls.get(call);
    if (!waiting) return;
    if (progress) return waiting.progress(progress);
    this.calls.delete(call);
    if (error === undefined) waiting.resolve(value);
    else waiting.reject(Object.assign(new Error(error), { aborted }));
  }
}

const pictures = new Pictures();
const viewer = new Viewer(element("viewer"), element("canvas"), element("divider"), (id, tile) =>
  pictures.call("tile", { id, ...tile }),
);

/** Facts of every model, from models.json. */
let models = [];
/** @type {{id: number, file: File, name: string, state: string, input?: any, result?: any, row: HTMLElement}[]} */
let items = [];
let current = null;
let running = null;
let count = 0;

// ---- settings ----

const scaleOf = ({ task, scale }) => (task === "downscale" ? 1 / scale : scale);
const floats = (name) => name.replace(/-int8$/, "");
const fileSize = (bytes) =>
  bytes < 999_500 ? `${Math.max(1, Math.round(bytes / 1000))}\u00a0kB` : `${(bytes / 1e6).toFixed(1)}\u00a0MB`;

async function readModels() {
  models = await (await fetch(new URL("./models.json", import.meta.url))).json();
  const scales = [...new Set(models.map(scaleOf))].sort((a, b) => a - b);
  for (const scale of scales) element("scales").append(scaleChoice(scale));
  const first = models.find(({ name }) => name === DEFAULT_MODEL) ?? models[0];
  element("scales").querySelector(`[value="${scaleOf(first)}"]`).checked = true;
  offerModels(first.name);
}

function scaleChoice(scale) {
  const label = document.createElement("label"), input = document.createElement("input");
  Object.assign(input, { type: "radio", name: "scale", value: String(scale) });
  input.setAttribute("aria-label", SCALE_NAMES[scale] ?? `${scale} times the size`);
  label.append(input, SCALE_LABELS[scale] ?? `${scale}×`);
  return label;
}

const chosenScale = () => Number(element("scales").querySelector(":checked").value);

/** Fills the list of models of the chosen scale. */
function offerModels(chosen) {
  const names = [...new Set(models.filter((m) => scaleOf(m) === chosenScale()).map(({ name }) => floats(name)))];
  element("model").replaceChildren(...names.map(option));
  if (names.includes(chosen)) element("model").value = chosen;
  describeModel();
}

function option(name) {
  return new Option(TITLES[name] ?? name, name);
}

/** The entry of the chosen model and precision. */
function chosenModel() {
  const name = element("model").value, quantized = `${name}-int8`;
  const wanted = element("precision").value === "int8" ? quantized : name;
  return models.find((model) => model.name === wanted) ?? models.find((model) => model.name === name);
}

function describeModel() {
  const model = chosenModel(), { about } = models.find(({ name }) => name === floats(model.name));
  const sentence = ABOUT[floats(model.name)] ?? `${about[0].toUpperCase()}${about.slice(1)}.`;
  element("about").textContent = `${sentence} Model ${model.name}: ${fileSize(model.bytes)} to download, once.`;
}

function settingsChanged(event) {
  if (event.target.name === "scale") offerModels();
  describeModel();
  if (!items.length) return;
  for (const item of items) if (item.input) setState(item, "waiting");
  stop();
  showCurrent();
  work();
}

// ---- the queue ----

async function add(files) {
  say("errors", "");
  let isFirst = true;
  for (const file of files) {
    const item = { id: count++, file, name: file.name || "pasted picture", state: "reading", row: undefined };
    items.push(item);
    item.row = rowOf(item);
    element("list").append(item.row);
    refresh();
    try {
      item.input = await pictures.call("open", { id: item.id, file });
      drawThumbnail(item);
      if (item.state === "removed") {
        pictures.call("close", { id: item.id });
        continue;
      }
      setState(item, "waiting");
      if (isFirst || !current) select(item);
      isFirst = false;
      work();
    } catch (error) {
      remove(item);
      tellError(item.name, error.message);
    }
  }
}

/** Enhances the pictures that wait, one after the other, the visible one first. */
async function work() {
  if (running) return;
  const item = current?.state === "waiting" ? current : items.find(({ state }) => state === "waiting");
  if (!item) return refresh();
  const model = chosenModel();
  running = item;
  setState(item, "running");
  item.result = undefined;
  if (item === current) showCurrent();
  showProgress(item, { model });
  try {
    const parameters = { id: item.id, file: model.file, precision: element("precision").value };
    const result = await pictures.call("enhance", parameters, ({ share }) => showProgress(item, { share }));
    if (item.state === "running") finished(item, model, result);
  } catch (error) {
    if (!error.aborted) {
      tellError(item.name, error.message);
      say("status", "");
    }
    if (item.state === "running") setState(item, error.aborted ? "stopped" : "failed");
  }
  running = null;
  work();
}

function finished(item, model, result) {
  item.result = { ...result, model: model.name };
  setState(item, "done");
  const done = items.filter(({ state }) => state === "done").length;
  say("status", done > 1 ? `${done} pictures are done.` : `Done in ${time(result.milliseconds)}.`);
  if (item === current) showCurrent();
}

function stop() {
  if (running) pictures.call("cancel", { id: running.id });
}

function cancelAll() {
  for (const item of items) if (item.state === "waiting" || item.state === "running") setState(item, "stopped");
  stop();
  refresh();
  say("status", "Cancelled.");
}

function enhanceAgain() {
  for (const item of items) if (item.input && item.state !== "done") setState(item, "waiting");
  work();
}

function remove(item) {
  if (running === item) stop();
  pictures.call("close", { id: item.id });
  items = items.filter((other) => other !== item);
  item.row.remove();
  item.state = "removed";
  if (current === item) select(items.findLast(({ input }) => input) ?? null);
  if (!items.length) say("status", "");
  refresh();
}

/** Removes a picture; whoever uses the keyboard goes on beside it. */
function removeByHand(item) {
  const row = item.row.nextElementSibling ?? item.row.previousElementSibling;
  say("errors", "");
  remove(item);
  (row?.querySelector(".remove") ?? element("choose")).focus();
}

// ---- what is shown ----

const say = (id, text) => (element(id).textContent = text);

/** One more line of what went wrong. */
function tellError(name, text) {
  const earlier = element("errors").textContent;
  say("errors", `${earlier}${earlier && "\n"}${name}: ${text}`);
}

const size = ({ width, height }) => `${width} × ${height}`;
const time = (milliseconds) =>
  milliseconds < 999.5 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;

const STATES = {
  reading: () => "reading …",
  waiting: () => "waiting",
  running: () => "enhancing …",
  stopped: () => "cancelled",
  failed: () => "failed",
  done: ({ result }) => `${size(result)} · ${time(result.milliseconds)}`,
};

function setState(item, state) {
  item.state = state;
  item.row.querySelector(".state").textContent = STATES[state](item);
  refresh();
}

function rowOf(item) {
  const row = document.createElement("li");
  row.innerHTML =
    '<button type="button" class="pick"><canvas width="96" height="96" aria-hidden="true"></canvas>' +
    '<span><span class="name"></span><span class="state"></span></span></button>' +
    '<button type="button" class="remove">×</button>';
  row.querySelector(".name").textContent = item.name;
  row.querySelector(".state").textContent = STATES.reading();
  row.querySelector(".pick").addEventListener("click", () => select(item));
  row.querySelector(".remove").setAttribute("aria-label", `Remove ${item.name}`);
  row.querySelector(".remove").addEventListener("click", () => removeByHand(item));
  return row;
}

function drawThumbnail(item) {
  const canvas = item.row.querySelector("canvas"), { thumbnail } = item.input;
  const side = Math.min(thumbnail.width, thumbnail.height);
  const left = (thumbnail.width - side) / 2, top = (thumbnail.height - side) / 2;
  canvas.getContext("2d").drawImage(thumbnail, left, top, side, side, 0, 0, 96, 96);
  thumbnail.close();
}

function select(item) {
  if (item && !item.input) return;
  current = item;
  for (const other of items)
    other.row.querySelector(".pick").setAttribute("aria-current", String(other === item));
  showCurrent();
  refresh();
}

/** Size of the result, before there is one. */
function expectedSize({ width, height }) {
  const scale = chosenScale(), side = (pixels) => Math.ceil(pixels * scale);
  return { width: side(width), height: side(height) };
}

function showCurrent() {
  const shown = current?.input;
  element("empty").hidden = Boolean(shown);
  element("viewer").hidden = element("tools").hidden = !shown;
  if (!shown) return viewer.show(null);
  const { input, result, name, id } = current;
  const finished = Boolean(result) && current.state === "done";
  element("viewer").style.setProperty("--aspect", String(input.width / input.height));
  viewer.show({ id, input, size: finished ? result : expectedSize(input), finished, opaque: input.opaque });
  element("divider").hidden = !finished;
  for (const tag of document.querySelectorAll(".tag")) tag.hidden = !finished;
  element("canvas").setAttribute("aria-label", finished ? `${name}, before and after` : name);
  element("facts").textContent = finished
    ? `${size(input)} → ${size(result)} · ${time(result.milliseconds)} · ${result.model}`
    : `${size(input)} → ${size(expectedSize(input))}`;
}

/** model: of a picture that begins, which may have to be downloaded first; share: of what is done. */
function showProgress(item, { model, share }) {
  if (item !== running || item.state !== "running") return;
  const waiting = items.filter(({ state }) => state === "waiting").length;
  const more = waiting ? `, ${waiting} more to come` : "";
  say("status", model ? `Preparing the model, ${fileSize(model.bytes)} …` : `Enhancing ${item.name}${more} …`);
  if (model) element("progress").removeAttribute("value");
  else element("progress").value = share;
  if (!share) item.begin = performance.now();
  say("left", share ? remaining(share, performance.now() - item.begin) : "");
}

/** What is said of a long calculation: 0.25 after 30 s gives "25 %, about 2 min left". */
function remaining(share, milliseconds) {
  const seconds = (milliseconds / 1000) * (1 / share - 1), percent = `${Math.floor(100 * share)} %`;
  if (milliseconds < 2000 || share < 0.01) return percent;
  const left = seconds < 90 ? `${Math.max(1, Math.round(seconds))} s` : `${Math.round(seconds / 60)} min`;
  return `${percent}, about ${left} left`;
}

/** Which buttons can be used. */
function refresh() {
  const busy = items.some(({ state }) => state === "running" || state === "waiting");
  const done = items.filter(({ state }) => state === "done");
  const cancels = document.activeElement === element("cancel");
  if (!busy) say("left", "");
  element("progress").hidden = element("cancel").hidden = !busy;
  element("enhance").hidden = busy || !items.some(({ state }) => state === "stopped" || state === "failed");
  element("save").disabled = current?.state !== "done";
  if (cancels && !busy) element(element("enhance").hidden ? "save" : "enhance").focus();
  element("save-all").hidden = done.length < 2;
  element("pictures").hidden = element("saving").hidden = items.length === 0;
}

// ---- saving ----

function resultName(item, type) {
  const stem = item.name.replace(/\.[^.]*$/, "");
  return `${stem}-${item.result.model}.${EXTENSIONS[type]}`;
}

async function save(item) {
  const type = element("format").value;
  say("errors", "");
  say("status", `Writing ${resultName(item, type)} …`);
  try {
    const blob = await pictures.call("encode", { id: item.id, type, quality: QUALITY });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = resultName(item, type);
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    const white = type === "image/jpeg" && !item.input.opaque ? " What was transparent is white in a JPEG." : "";
    say("status", `${link.download} is saved: ${fileSize(blob.size)}.${white}`);
  } catch (error) {
    say("status", "");
    tellError(item.name, error.message);
  }
}

async function saveAll() {
  for (const item of items.filter(({ state }) => state === "done")) await save(item);
}

// ---- events ----

/** Adds what is dropped or pasted; says which files are no pictures. */
function addPictures(files) {
  const isPicture = ({ type }) => type === "" || type.startsWith("image/");
  add(files.filter(isPicture));
  for (const { name } of files.filter((file) => !isPicture(file))) tellError(name, "this is not a picture");
}

function listen() {
  for (const id of ["choose", "more"]) element(id).addEventListener("click", () => element("files").click());
  element("files").addEventListener("change", ({ target }) => {
    add([...target.files]);
    target.value = "";
  });
  element("sample").addEventListener("click", addSample);
  element("settings").addEventListener("change", settingsChanged);
  element("settings").addEventListener("submit", (event) => event.preventDefault());
  element("enhance").addEventListener("click", enhanceAgain);
  element("cancel").addEventListener("click", cancelAll);
  element("saving").addEventListener("submit", (event) => {
    event.preventDefault();
    save(current);
  });
  element("save-all").addEventListener("click", saveAll);
  element("smaller").addEventListener("click", () => viewer.zoomBy(-1));
  element("larger").addEventListener("click", () => viewer.zoomBy(1));
  element("fit").addEventListener("click", () => viewer.fit());
  element("actual").addEventListener("click", () => viewer.actualSize());
  element("loupe").addEventListener("click", toggleLoupe);
  element("divider").addEventListener("keydown", ({ key }) => ["m", "l"].includes(key.toLowerCase()) && toggleLoupe());
  viewer.onzoom = (zoom) => say("zoom", `${Math.round(100 * zoom)} %`);
  listenForDrops();
}

function toggleLoupe() {
  viewer.setLoupe(!viewer.loupe);
  element("loupe").setAttribute("aria-pressed", String(viewer.loupe));
}

function listenForDrops() {
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  document.addEventListener("dragleave", ({ relatedTarget }) => {
    if (!relatedTarget) document.body.classList.remove("dropping");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    if (event.dataTransfer.files.length) addPictures([...event.dataTransfer.files]);
    else say("errors", "Only files can be dropped here. Save the picture first, or copy and paste it.");
  });
  document.addEventListener("paste", ({ clipboardData }) => {
    if (clipboardData.files.length) addPictures([...clipboardData.files]);
  });
}

async function addSample() {
  const response = await fetch(new URL("./sample.png", import.meta.url)).catch(() => null);
  if (!response?.ok) return say("errors", "The sample cannot be downloaded. Is the connection down?");
  await add([new File([await response.blob()], "sample.png", { type: "image/png" })]);
}

if (/^(Mac|iP)/.test(navigator.platform)) say("paste-key", "⌘");
listen();
await readModels();
document.documentElement.dataset.ready = "true";
navigator.serviceWorker?.register(new URL("./service-worker.js", import.meta.url)).catch(() => {});
