/**
 * The before/after view: input and result drawn in one canvas with one transformation, so that zoom and pan
 * stay in step. It draws tiles that a function gives it, and only those that are visible.
 */

const TILE = 512;
const MAX_TILES = 192;
const MAX_REQUESTS = 4;
const MAX_ZOOM = 64;
/** Side of the squares behind what is transparent. */
const SQUARE = 8;
/** From this zoom on pixels are drawn as squares. */
const SQUARE_ZOOM = 4;
const ZOOM_STEP = 1.25;
const LOUPE_RADIUS = 84;
const LOUPE_ZOOM = 4;
const KEY_STEP = 0.02;
const KEY_PAN = 60;

/** @typedef {{width: number, height: number}} Size */
/** @typedef {{of: "input" | "result", level: number, x: number, y: number}} TileAddress */

export class Viewer {
  /**
   * @param {HTMLElement} box @param {HTMLCanvasElement} canvas @param {HTMLElement} divider
   * @param {(id: number, tile: TileAddress) => Promise<ImageBitmap | null>} fetchTile
   */
  constructor(box, canvas, divider, fetchTile) {
    Object.assign(this, { box, canvas, divider, fetchTile });
    this.context = canvas.getContext("2d");
    /** @type {{id: number, input: Size, size: Size, finished: boolean, opaque: boolean} | null} */
    this.picture = null;
    this.split = 0.5;
    this.zoom = 1;
    this.centre = { x: 0, y: 0 };
    this.loupe = false;
    this.pointer = null;
    this.pointers = new Map();
    /** @type {Map<string, ImageBitmap | null>} */
    this.tiles = new Map();
    this.requests = 0;
    this.epoch = 0;
    this.onzoom = () => {};
    new ResizeObserver(() => this.resized()).observe(box);
    this.listen();
  }

  /**
   * Shows a picture. size: of the result. finished: whether there is a result yet.
   * @param {{id: number, input: Size, size: Size, finished: boolean, opaque: boolean} | null} picture
   */
  show(picture) {
    const before = this.picture, same = before && picture && before.id === picture.id;
    this.picture = picture;
    if (!same || !picture.finished || !before.finished) this.forget(same ? "result" : "");
    if (same) this.rescale(picture.size.width / before.size.width);
    else if (picture) this.fit();
    this.draw();
  }

  /** Keeps what is visible where the result has got another size. */
  rescale(factor) {
    const fitted = this.fitted;
    this.zoom /= factor;
    this.centre = { x: this.centre.x * factor, y: this.centre.y * factor };
    if (fitted) this.fit();
    else this.changed();
  }

  /** Drops tiles; a request that is under way is ignored. */
  forget(of) {
    this.epoch++;
    for (const [key, bitmap] of this.tiles)
      if (key.startsWith(of)) {
        bitmap?.close();
        this.tiles.delete(key);
      }
  }

  /** Zoom at which the whole picture is visible. */
  get fitZoom() {
    const { width, height } = this.picture.size;
    return Math.min(this.box.clientWidth / width, this.box.clientHeight / height, MAX_ZOOM);
  }

  fit() {
    if (!this.picture) return;
    const { width, height } = this.picture.size;
    this.zoom = this.fitZoom;
    this.centre = { x: width / 2, y: height / 2 };
    this.fitted = true;
    this.changed();
  }

  /** One pixel of the result is one pixel of the screen. */
  actualSize() {
    this.zoomTo(1 / devicePixelRatio);
  }

  zoomBy(steps, at) {
    this.zoomTo(this.zoom * ZOOM_STEP ** steps, at);
  }

  /** Zooms so that the point `at` of the box stays where it is. */
  zoomTo(zoom, at = { x: this.box.clientWidth / 2, y: this.box.clientHeight / 2 }) {
    if (!this.picture) return;
    const least = Math.min(this.fitZoom, 1 / devicePixelRatio);
    const next = Math.min(Math.max(zoom, least), MAX_ZOOM);
    const dx = at.x - this.box.clientWidth / 2, dy = at.y - this.box.clientHeight / 2;
    this.centre.x += dx / this.zoom - dx / next;
    this.centre.y += dy / this.zoom - dy / next;
    this.zoom = next;
    this.fitted = false;
    this.changed();
  }

  panBy(dx, dy) {
    this.centre.x -= dx / this.zoom;
    this.centre.y -= dy / this.zoom;
    this.fitted = false;
    this.changed();
  }

  setSplit(split) {
    this.split = Math.min(Math.max(split, 0), 1);
    const percent = Math.round(100 * this.split);
    this.divider.setAttribute("aria-valuenow", String(percent));
    this.divider.setAttribute("aria-valuetext", `${percent} % before, ${100 - percent} % after`);
    this.divider.style.left = `${100 * this.split}%`;
    this.draw();
  }

  setLoupe(on) {
    this.loupe = on;
    this.draw();
  }

  /** The centre stays inside the picture; a picture that fits is centred. */
  changed() {
    const { width, height } = this.picture.size;
    const inside = (centre, side, shown) =>
      shown >= side ? side / 2 : Math.min(Math.max(centre, shown / 2), side - shown / 2);
    this.centre.x = inside(this.centre.x, width, this.box.clientWidth / this.zoom);
    this.centre.y = inside(this.centre.y, height, this.box.clientHeight / this.zoom);
    this.box.classList.toggle("fitted", this.fitted);
    this.onzoom(this.zoom * devicePixelRatio);
    this.draw();
  }

  resized() {
    const ratio = devicePixelRatio, { clientWidth, clientHeight } = this.box;
    this.canvas.width = Math.max(1, Math.round(clientWidth * ratio));
    this.canvas.height = Math.max(1, Math.round(clientHeight * ratio));
    if (!this.picture || !clientWidth) return;
    if (this.fitted) this.fit();
    else this.changed();
  }

  /** Draws at the next frame. */
  draw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      this.paint();
    });
  }

  paint() {
    const { context, canvas, picture } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!picture || !this.box.clientWidth) return;
    this.wanted = [];
    const whole = { left: 0, top: 0, width: canvas.width, height: canvas.height };
    const middle = Math.round(this.split * canvas.width), ratio = devicePixelRatio;
    const view = { zoom: this.zoom * ratio, x: canvas.width / 2, y: canvas.height / 2, centre: this.centre };
    const right = { ...whole, left: middle, width: canvas.width - middle };
    this.layer("input", view, picture.finished ? { ...whole, width: middle } : whole);
    if (picture.finished) this.layer("result", view, right);
    if (this.loupe) this.paintLoupe(view, ratio);
    this.fetchWanted();
  }

  /** Two circles, before and after, of the place under the pointer or in the middle. */
  paintLoupe(view, ratio) {
    const { context, canvas, picture } = this;
    const at = this.pointer ?? { x: this.box.clientWidth / 2, y: this.box.clientHeight / 2 };
    const [x, y] = [at.x * ratio, at.y * ratio], radius = LOUPE_RADIUS * ratio;
    const centre = { x: view.centre.x + (x - view.x) / view.zoom, y: view.centre.y + (y - view.y) / view.zoom };
    const zoom = Math.max(LOUPE_ZOOM * view.zoom, LOUPE_ZOOM);
    const middle = Math.min(Math.max(x, 2 * radius + 8), canvas.width - 2 * radius - 8);
    const beside = y - radius * 1.4 < radius ? y + radius * 1.5 : y - radius * 1.4;
    const row = Math.max(Math.min(beside, canvas.height - radius - 8), radius + 8);
    const circles = picture.finished ? ["input", "result"] : ["input"];
    circles.forEach((of, k) => {
      const circle = { x: middle + (2 * k - 1) * (radius + 4), y: row };
      context.save();
      context.beginPath();
      context.arc(circle.x, circle.y, radius, 0, 2 * Math.PI);
      context.fillStyle = "#0c0f0e";
      context.fill();
      context.clip();
      const box = { left: circle.x - radius, top: circle.y - radius, width: 2 * radius, height: 2 * radius };
      this.layer(of, { zoom, x: circle.x, y: circle.y, centre }, box);
      context.restore();
      context.beginPath();
      context.arc(circle.x, circle.y, radius, 0, 2 * Math.PI);
      context.lineWidth = 3 * ratio;
      context.strokeStyle = "#fff";
      context.stroke();
    });
  }

  /**
   * Draws one of the two pictures inside `clip`, first coarsely, then as finely as is visible.
   * view: device pixels of a pixel of the result; the point (x, y) of the canvas shows `centre`.
   */
  layer(of, view, clip) {
    const { context, picture } = this, own = of === "input" ? picture.input : picture.size;
    if (clip.width <= 0) return;
    const zoom = (view.zoom * picture.size.width) / own.width;
    const left = view.x - view.centre.x * view.zoom, top = view.y - view.centre.y * view.zoom;
    const coarsest = Math.max(0, Math.ceil(Math.log2(Math.max(own.width, own.height) / TILE)));
    const finest = Math.min(coarsest, Math.max(0, Math.floor(Math.log2(1 / zoom) + 0.01)));
    context.save();
    context.beginPath();
    context.rect(clip.left, clip.top, clip.width, clip.height);
    context.clip();
    context.imageSmoothingEnabled = zoom < SQUARE_ZOOM;
    const place = { zoom, left, top };
    if (!picture.opaque) this.paintSquares(left, top, own.width * zoom, own.height * zoom);
    const tiles = this.visible(of, own, finest, place, clip);
    // The coarsest tile fills in for those that are not there yet.
    if (tiles.some((address) => !this.tiles.get(keyOf(address))))
      this.drawTiles(this.visible(of, own, coarsest, place, clip), own, place);
    this.drawTiles(tiles, own, place);
    context.restore();
  }

  /** What is transparent is shown on light squares. */
  paintSquares(left, top, width, height) {
    if (!this.squares) {
      const side = SQUARE * devicePixelRatio, canvas = new OffscreenCanvas(2 * side, 2 * side);
      const context = canvas.getContext("2d");
      for (const k of [0, 1, 2, 3]) {
        context.fillStyle = k % 3 ? "#d4d8d6" : "#fff";
        context.fillRect((k & 1) * side, (k >> 1) * side, side, side);
      }
      this.squares = this.context.createPattern(canvas, "repeat");
    }
    this.context.fillStyle = this.squares;
    this.context.fillRect(left, top, width, height);
  }

  /** Addresses of the tiles of a level that are visible inside `clip`. */
  visible(of, own, level, { zoom, left, top }, clip) {
    const side = TILE * 2 ** level, shown = side * zoom, addresses = [];
    const first = (from, start) => Math.max(0, Math.floor((from - start) / shown));
    const end = (to, start, size) => Math.min(Math.ceil(size / side), Math.ceil((to - start) / shown));
    for (let y = first(clip.top, top); y < end(clip.top + clip.height, top, own.height); y++)
      for (let x = first(clip.left, left); x < end(clip.left + clip.width, left, own.width); x++)
        addresses.push({ of, level, x, y });
    return addresses;
  }

  drawTiles(addresses, own, { zoom, left, top }) {
    for (const address of addresses) {
      const bitmap = this.tile(address), side = TILE * 2 ** address.level;
      if (!bitmap) continue;
      const x = address.x * side, y = address.y * side;
      const width = Math.min(side, own.width - x) * zoom, height = Math.min(side, own.height - y) * zoom;
      this.context.drawImage(bitmap, left + x * zoom, top + y * zoom, width, height);
    }
  }

  /** A tile if it is there; if not, it is wanted. */
  tile(address) {
    const key = keyOf(address), bitmap = this.tiles.get(key);
    if (bitmap === undefined) this.wanted.push(address);
    else {
      this.tiles.delete(key); // the most recently used are last
      this.tiles.set(key, bitmap);
    }
    return bitmap;
  }

  fetchWanted() {
    while (this.requests < MAX_REQUESTS && this.wanted.length) {
      const address = this.wanted.shift(), key = keyOf(address), { epoch } = this;
      if (this.tiles.has(key)) continue;
      this.tiles.set(key, null);
      this.requests++;
      this.fetchTile(this.picture.id, address)
        .catch(() => null)
        .then((bitmap) => {
          this.requests--;
          if (epoch !== this.epoch) bitmap?.close();
          else if (bitmap) this.tiles.set(key, bitmap);
          else this.tiles.delete(key);
          this.dropOldest();
          if (bitmap) this.draw();
        });
    }
  }

  dropOldest() {
    for (const [key, bitmap] of this.tiles) {
      if (this.tiles.size <= MAX_TILES) return;
      if (!bitmap) continue;
      bitmap.close();
      this.tiles.delete(key);
    }
  }

  // ---- pointer, wheel and keys ----

  listen() {
    const { box, divider } = this;
    box.addEventListener("pointerdown", (event) => this.pressed(event));
    box.addEventListener("pointermove", (event) => this.moved(event));
    for (const name of ["pointerup", "pointercancel"])
      box.addEventListener(name, (event) => this.pointers.delete(event.pointerId));
    box.addEventListener("pointerleave", () => {
      this.pointer = null;
      if (this.loupe) this.draw();
    });
    box.addEventListener("dblclick", (event) => {
      if (this.fitted) this.zoomTo(1 / devicePixelRatio, this.position(event));
      else this.fit();
    });
    box.addEventListener(
      "wheel",
      (event) => {
        // Where the whole picture is visible on a page that scrolls, the wheel scrolls.
        const { scrollHeight, clientHeight } = document.documentElement;
        if (this.fitted && !event.ctrlKey && scrollHeight > clientHeight) return;
        event.preventDefault();
        this.zoomBy(-Math.sign(event.deltaY) * Math.min(Math.abs(event.deltaY) / 60, 2), this.position(event));
      },
      { passive: false },
    );
    divider.addEventListener("keydown", (event) => {
      if (this.keyed(event)) event.preventDefault();
    });
  }

  position({ clientX, clientY }) {
    const { left, top } = this.box.getBoundingClientRect();
    return { x: clientX - left - this.box.clientLeft, y: clientY - top - this.box.clientTop };
  }

  pressed(event) {
    this.dragsDivider = event.target === this.divider;
    this.pointers.set(event.pointerId, this.position(event));
    this.box.setPointerCapture(event.pointerId);
    if (!this.dragsDivider) event.preventDefault();
    this.divider.focus({ preventScroll: true });
  }

  moved(event) {
    const now = this.position(event), before = this.pointers.get(event.pointerId);
    this.pointer = now;
    if (this.loupe) this.draw();
    if (!before || !this.picture) return;
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    this.pointers.set(event.pointerId, now);
    if (others.length === 1) this.pinched(others[0], before, now);
    else if (this.dragsDivider) this.setSplit(now.x / this.box.clientWidth);
    else this.panBy(now.x - before.x, now.y - before.y);
  }

  pinched(other, before, now) {
    const distance = (point) => Math.hypot(point.x - other.x, point.y - other.y);
    const middle = { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 };
    this.zoomTo((this.zoom * distance(now)) / Math.max(distance(before), 1), middle);
    this.panBy((now.x - before.x) / 2, (now.y - before.y) / 2);
  }

  /** Acts on a key; true if it has a meaning. */
  keyed(event) {
    if (!this.picture || event.ctrlKey || event.metaKey || event.altKey) return false;
    const direction = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (direction && event.shiftKey) this.panBy(-KEY_PAN * direction[0], -KEY_PAN * direction[1]);
    else if (direction) this.setSplit(this.split + KEY_STEP * (direction[0] - direction[1]));
    else if (event.key === "Home" || event.key === "End") this.setSplit(event.key === "Home" ? 0 : 1);
    else if (event.key === "PageUp" || event.key === "PageDown")
      this.setSplit(this.split + (event.key === "PageUp" ? 0.1 : -0.1));
    else if (event.key === "+" || event.key === "=") this.zoomBy(1);
    else if (event.key === "-") this.zoomBy(-1);
    else if (event.key === "0") this.fit();
    else if (event.key === "1") this.actualSize();
    else return false;
    return true;
  }
}

const keyOf = ({ of, level, x, y }) => `${of}/${level}/${x}/${y}`;
