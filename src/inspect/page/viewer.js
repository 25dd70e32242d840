// One micrograph: its picture, and on it picks and labels. Positions are in micrograph px, of which
// the whole number is the centre of a px.

import { ask, picture } from "./api.js";
import { erased, extend, paintAreas } from "./brush.js";
import { Marks, paintPointer } from "./marks.js";

const SIZES = [256, 1024, 2048, 4096];
// Marks are drawn sharply once the view has been still for so long.
const STILL_MS = 120;

export class Viewer {
  constructor({ onClick, onHover, onZoom, onMeasure, onAreas, onTrouble }) {
    this.stage = document.getElementById("stage");
    this.base = document.getElementById("base");
    this.over = document.getElementById("over");
    Object.assign(this, { onClick, onHover, onZoom, onMeasure, onAreas, onTrouble });
    this.tool = "look";
    this.marks = new Marks();
    this.peaks = [];
    this.labels = { positives: [], negatives: [], areas: [] };
    this.brush = 50;
    this.map = null;
    this.mapShare = 0.6;
    this.threshold = 1;
    this.circles = true;
    this.below = false;
    this.chosen = null;
    this.radius = 10;
    this.pictures = new Map();
    this.pointers = new Map();
    this.zoom = 1;
    this.x = 0;
    this.y = 0;
    new ResizeObserver(() => this.resize()).observe(this.stage);
    this.stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      const speed = event.deltaMode === 1 ? 0.05 : 0.0016;
      this.zoomAt(Math.exp(-event.deltaY * speed), ...this.within(event));
    }, { passive: false });
    this.stage.addEventListener("pointerdown", (event) => this.down(event));
    this.stage.addEventListener("pointermove", (event) => this.moved(event));
    this.stage.addEventListener("pointerup", (event) => this.up(event));
    this.stage.addEventListener("pointercancel", (event) => this.pointers.delete(event.pointerId));
    this.stage.addEventListener("pointerleave", () => this.hover(null));
    this.stage.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  // Begins with another micrograph; its peaks and size come with `fill`.
  begin(id) {
    this.id = id;
    this.info = null;
    this.peaks = [];
    this.chosen = null;
    this.changes = null;
    this.labels = { positives: [], negatives: [], areas: [] };
    this.ring = null;
    this.stroke = null;
    this.map = null;
    this.pictures = new Map();
    this.asked = new Set();
    this.onHover(null);
    this.want(1024);
    this.draw();
  }

  fill(info, radius) {
    this.info = info;
    this.peaks = info.peaks;
    this.radius = radius;
    this.fit();
  }

  want(size) {
    if (this.asked.has(size)) return;
    this.asked.add(size);
    const id = this.id;
    const image = new Image();
    image.onload = () => {
      if (this.id !== id) return;
      this.pictures.set(size, image);
      this.draw();
    };
    image.onerror = async () => {
      // A picture does not say why it could not be had.
      try {
        await ask(picture(id, size));
      } catch (error) {
        if (this.id === id) this.onTrouble(error);
      }
    };
    image.src = picture(id, size);
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.stage;
    if (!width || !height) return;
    for (const canvas of [this.base, this.over]) {
      canvas.width = width * devicePixelRatio;
      canvas.height = height * devicePixelRatio;
    }
    const whole = this.isWhole;
    [this.width, this.height] = [width, height];
    if (whole || !this.placed) this.fit();
    else this.draw();
  }

  fit() {
    this.placed = Boolean(this.info && this.width);
    if (!this.placed) return;
    const { width, height } = this.info;
    this.zoom = Math.min(this.width / width, this.height / height);
    this.x = (this.width - width * this.zoom) / 2;
    this.y = (this.height - height * this.zoom) / 2;
    this.isWhole = true;
    this.changed();
  }

  changed() {
    this.onZoom(this.zoom);
    this.nextFrame();
  }

  zoomAt(factor, x = this.width / 2, y = this.height / 2) {
    if (!this.info) return;
    const least = Math.min(this.width / this.info.width, this.height / this.info.height) * 0.5;
    const zoom = Math.min(16, Math.max(least, this.zoom * factor));
    this.x = x - ((x - this.x) * zoom) / this.zoom;
    this.y = y - ((y - this.y) * zoom) / this.zoom;
    this.zoom = zoom;
    this.isWhole = false;
    this.keep();
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.isWhole = false;
    this.keep();
  }

  // Some of the micrograph stays on screen.
  keep() {
    if (!this.info) return;
    const [w, h] = [this.info.width * this.zoom, this.info.height * this.zoom];
    const margin = 60;
    this.x = Math.min(this.width - margin, Math.max(margin - w, this.x));
    this.y = Math.min(this.height - margin, Math.max(margin - h, this.y));
    this.changed();
  }

  within(event) {
    const box = this.stage.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  toMicrograph(x, y) {
    return [(x - this.x) / this.zoom - 0.5, (y - this.y) / this.zoom - 0.5];
  }

  middle() {
    return this.toMicrograph(this.width / 2, this.height / 2);
  }

  down(event) {
    if (event.button > 2) return;
    this.stage.setPointerCapture(event.pointerId);
    if (this.tool === "measure" && this.info) {
      this.ring = { at: this.toMicrograph(...this.within(event)), held: true };
      return;
    }
    if (this.tool === "brush" && this.info && this.pointers.size === 0) {
      this.paintBegins(event);
      return;
    }
    this.pointers.set(event.pointerId, this.within(event));
    if (this.pointers.size === 1) this.press = { at: this.within(event), far: false };
    else this.press = null;
  }

  moved(event) {
    const here = this.within(event);
    if (this.ring?.held) {
      const [x, y] = this.toMicrograph(...here);
      const radius = Math.hypot(x - this.ring.at[0], y - this.ring.at[1]);
      if (radius >= 2) this.onMeasure(Math.round(radius * 2) / 2);
      return;
    }
    if (this.stroke) {
      this.paintGoesOn(here);
      return;
    }
    const before = this.pointers.get(event.pointerId);
    if (!before) {
      this.hover(here);
      return;
    }
    if (this.pointers.size === 2) {
      const [other] = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
      const apart = (at) => Math.hypot(at[0] - other[0], at[1] - other[1]) || 1;
      this.zoomAt(apart(here) / apart(before), (here[0] + other[0]) / 2, (here[1] + other[1]) / 2);
    } else if (this.press) {
      const far = Math.hypot(here[0] - this.press.at[0], here[1] - this.press.at[1]) > 4;
      if (far || this.press.far) {
        this.press.far = true;
        this.stage.classList.add("dragging");
        this.pan(here[0] - before[0], here[1] - before[1]);
      }
    }
    this.pointers.set(event.pointerId, here);
  }

  up(event) {
    if (this.ring) this.ring.held = false;
    if (this.stroke) {
      const { areas } = this.stroke;
      this.stroke = null;
      if (areas) this.onAreas(areas);
      return;
    }
    this.pointers.delete(event.pointerId);
    this.stage.classList.remove("dragging");
    if (this.press && !this.press.far && this.info) {
      const [x, y] = this.toMicrograph(...this.press.at);
      const inside = x > -0.5 && y > -0.5 && x < this.info.width - 0.5 && y < this.info.height - 0.5;
      if (inside) this.onClick(x, y, event.shiftKey || event.button === 2);
    }
    this.press = null;
  }

  // A brush paints; with Shift or the other button it erases.
  paintBegins(event) {
    const rubs = event.shiftKey || event.button === 2;
    const [x, y] = this.toMicrograph(...this.within(event)).map((at) => Math.round(at * 10) / 10);
    const line = { radius: this.brush, points: [[x, y]] };
    const before = this.labels.areas ?? [];
    this.stroke = { rubs, line, areas: rubs ? null : [...before, line] };
    if (rubs) this.rub(x, y);
    this.draw();
  }

  paintGoesOn(here) {
    this.pointer = here;
    const [x, y] = this.toMicrograph(...here).map((at) => Math.round(at * 10) / 10);
    if (this.stroke.rubs) this.rub(x, y);
    else extend(this.stroke.line, x, y);
    this.nextFrame();
  }

  rub(x, y) {
    const before = this.stroke.areas ?? this.labels.areas ?? [];
    const after = erased(before, x, y, this.brush);
    if (after.length !== before.length || after.some((stroke, at) => stroke !== before[at])) this.stroke.areas = after;
  }

  // Puts a place into the middle.
  look(x, y, zoom = this.zoom) {
    this.zoom = zoom;
    this.isWhole = false;
    this.x = this.width / 2 - (x + 0.5) * zoom;
    this.y = this.height / 2 - (y + 0.5) * zoom;
    this.keep();
  }

  // The distance up to which a click means a mark.
  reach() {
    return Math.max(this.radius * 0.9, 9 / this.zoom);
  }

  visible() {
    const least = this.below ? 0 : this.threshold;
    return this.peaks.filter((peak) => peak[2] >= least);
  }

  hover(at) {
    this.pointer = at;
    if (this.tool === "label" || this.tool === "brush") this.nextFrame();
    if (!at || !this.info) return this.onHover(null);
    const [x, y] = this.toMicrograph(...at);
    let best = null;
    let least = this.reach();
    for (const peak of this.circles ? this.visible() : []) {
      const apart = Math.hypot(peak[0] - x, peak[1] - y);
      if (apart < least) [best, least] = [peak, apart];
    }
    this.onHover({ x, y, peak: best });
  }

  // The next pick, best first; it is brought into view.
  step(by) {
    const picks = this.visible();
    if (!picks.length) return;
    const at = picks.indexOf(this.chosen);
    this.chosen = picks[at < 0 ? (by > 0 ? 0 : picks.length - 1) : (at + by + picks.length) % picks.length];
    const [x, y] = [this.chosen[0] * this.zoom + this.x, this.chosen[1] * this.zoom + this.y];
    if (x < 40 || y < 40 || x > this.width - 40 || y > this.height - 40) {
      this.pan(this.width / 2 - x, this.height / 2 - y);
    }
    this.onHover({ x: this.chosen[0], y: this.chosen[1], peak: this.chosen });
    this.draw();
  }

  // Something on the micrograph has changed.
  draw() {
    this.stale = true;
    this.nextFrame();
  }

  nextFrame() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.paint();
    });
  }

  paint() {
    const dpr = devicePixelRatio;
    const base = this.base.getContext("2d");
    base.setTransform(1, 0, 0, 1, 0, 0);
    base.clearRect(0, 0, this.base.width, this.base.height);
    const over = this.over.getContext("2d");
    over.setTransform(1, 0, 0, 1, 0, 0);
    over.clearRect(0, 0, this.over.width, this.over.height);
    if (!this.info || !this.placed) return;
    const needed = this.zoom * dpr * Math.max(this.info.width, this.info.height);
    const size = SIZES.find((own, at) => own >= needed * 0.8 || (SIZES[at - 1] ?? 0) >= Math.max(this.info.width, this.info.height)) ?? SIZES.at(-1);
    this.want(Math.max(1024, size));
    const best = [...this.pictures.keys()].sort((a, b) => b - a)[0];
    if (best) {
      base.imageSmoothingEnabled = this.zoom * dpr < 3;
      base.imageSmoothingQuality = "high";
      base.setTransform(dpr * this.zoom, 0, 0, dpr * this.zoom, dpr * this.x, dpr * this.y);
      base.drawImage(this.pictures.get(best), 0, 0, this.info.width, this.info.height);
    }
    if (this.map) {
      over.setTransform(dpr * this.zoom, 0, 0, dpr * this.zoom, dpr * this.x, dpr * this.y);
      over.globalAlpha = this.mapShare;
      over.drawImage(this.map, 0, 0, this.info.width, this.info.height);
      over.globalAlpha = 1;
    }
    over.setTransform(dpr, 0, 0, dpr, 0, 0);
    const areas = this.stroke?.areas ?? this.labels.areas ?? [];
    if (areas.length) paintAreas(over, areas, this);
    const blurred = this.marks.paint(over, this, this.stale);
    this.stale = false;
    clearTimeout(this.settling);
    if (blurred) this.settling = setTimeout(() => this.draw(), STILL_MS);
    paintPointer(over, this);
  }
}
