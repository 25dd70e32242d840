// Particles of all micrographs as cut-outs. Only those on screen are in the page and only their pictures
// are asked for, however many there are.

import { ask } from "./api.js";
import { reveal } from "./shared.js";

const SHEET = 60;
const COLUMNS = 10;
const SOURCE = 64;
const TOLD = 600;
const GAP = 4;
const MOST_SHEETS = 60;

const made = (tag, kind, text) => {
  const element = document.createElement(tag);
  if (kind) element.className = kind;
  if (text !== undefined) element.textContent = text;
  return element;
};

export class Gallery {
  constructor({ rows, threshold, onMark, onUndo, onOpen, onChosen, onTrouble }) {
    Object.assign(this, { rows, threshold, onMark, onUndo, onOpen, onChosen, onTrouble });
    this.scroller = document.getElementById("gallery-scroller");
    this.cells = document.getElementById("gallery-cells");
    this.sort = "best";
    this.click = "reject";
    this.side = 84;
    this.at = 0;
    this.anchor = 0;
    this.chosen = new Set();
    this.inPage = new Map();
    this.forget();
    this.scroller.addEventListener("scroll", () => this.paint(), { passive: true });
    this.scroller.addEventListener("keydown", (event) => this.key(event));
    this.scroller.addEventListener("pointerdown", (event) => this.down(event));
    this.scroller.addEventListener("pointermove", (event) => this.dragged(event));
    for (const end of ["pointerup", "pointercancel"]) this.scroller.addEventListener(end, (event) => this.up(event));
    this.scroller.addEventListener("dblclick", (event) => this.open(this.under(event)));
    new ResizeObserver(() => this.paint()).observe(this.scroller);
  }

  // Everything of the last order goes.
  forget() {
    this.wanted?.abort();
    this.wanted = new AbortController();
    for (const sheet of this.sheets?.values() ?? []) if (sheet.url) URL.revokeObjectURL(sheet.url);
    this.sheets = new Map();
    this.told = new Map();
    this.total = null;
    this.version = null;
    this.labels = new Map();
    this.chosen.clear();
    this.at = 0;
    this.anchor = 0;
    this.cells?.replaceChildren();
    this.inPage.clear();
  }

  async show() {
    this.forget();
    this.scroller.scrollTop = 0;
    this.onChosen(this);
    await this.tell(0);
    this.paint();
  }

  query(from, count) {
    const version = this.version ? `&v=${this.version}` : "";
    return `sort=${this.sort}&threshold=${this.cut}&from=${from}&count=${count}${version}`;
  }

  // The particles of a part of the order.
  tell(part) {
    if (!this.told.has(part)) {
      if (part === 0) this.cut = this.threshold();
      const signal = this.wanted.signal;
      const asked = ask(`/api/particles?${this.query(part * TOLD, TOLD)}`, { signal }).then(({ data }) => {
        if (signal.aborted) return;
        if (this.version && this.version !== data.version) return this.show();
        this.version = data.version;
        this.total = data.total;
        this.told.set(part, data.particles);
        for (const [place, number, , , , label] of data.particles) {
          if (label) this.labels.set(`${place}:${number}`, label);
        }
        this.paint();
      }).catch((error) => {
        this.told.delete(part);
        if (!signal.aborted) this.onTrouble(error);
      });
      this.told.set(part, asked);
    }
    const told = this.told.get(part);
    return Array.isArray(told) ? null : told;
  }

  particle(at) {
    const part = this.told.get(Math.floor(at / TOLD));
    const own = Array.isArray(part) ? part[at % TOLD] : null;
    if (!own) return null;
    const [place, number, x, y, score] = own;
    return { at, key: `${place}:${number}`, place, number, x, y, score, row: this.rows()[place] };
  }

  layout() {
    const width = this.scroller.clientWidth - 24;
    const columns = Math.max(3, Math.floor((width + GAP) / (this.side + GAP)));
    const side = Math.floor((width - GAP * (columns - 1)) / columns);
    return { columns, side };
  }

  range() {
    const { columns, side } = this.layout();
    const { scrollTop, clientHeight } = this.scroller;
    const first = Math.max(0, Math.floor(scrollTop / (side + GAP)) - 2) * columns;
    const last = Math.min(this.total ?? 0, (Math.ceil((scrollTop + clientHeight) / (side + GAP)) + 2) * columns);
    return [first, last];
  }

  paint() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.draw();
    });
  }

  draw() {
    if (!this.scroller.clientWidth || this.total === null) return;
    const { columns, side } = this.layout();
    if (this.shownSide !== side || this.columns !== columns) {
      this.cells.replaceChildren();
      this.inPage.clear();
    }
    [this.shownSide, this.columns] = [side, columns];
    const lines = Math.ceil(this.total / columns);
    this.cells.style.height = `${Math.max(0, lines * (side + GAP))}px`;
    document.getElementById("gallery-shown").textContent = this.total.toLocaleString("en") + (this.sort === "unsure" ? " peaks" : " picks");
    if (!this.total) {
      if (!this.cells.childElementCount) this.cells.append(made("div", "empty", "No picks at this threshold."));
      return;
    }
    const [first, last] = this.range();
    for (const [at, cell] of this.inPage) {
      if (at < first || at >= last) {
        cell.remove();
        this.inPage.delete(at);
      }
    }
    for (let at = first; at < last; at += 1) {
      const cell = this.inPage.get(at) ?? this.cell(at);
      cell.style.transform = `translate(${(at % columns) * (side + GAP)}px, ${Math.floor(at / columns) * (side + GAP)}px)`;
      this.fill(cell, at);
    }
    for (let part = Math.floor(first / TOLD); part * TOLD < last; part += 1) this.tell(part);
    clearTimeout(this.settled);
    this.settled = setTimeout(() => this.fetchSheets(), 60);
  }

  cell(at) {
    const cell = made("div", "cut-out");
    cell.setAttribute("role", "gridcell");
    cell.dataset.at = at;
    cell.style.width = cell.style.height = `${this.shownSide}px`;
    this.cells.append(cell);
    this.inPage.set(at, cell);
    return cell;
  }

  fill(cell, at) {
    const own = this.particle(at);
    const label = own ? (this.labels.get(own.key) ?? 0) : 0;
    cell.classList.toggle("yes", label > 0);
    cell.classList.toggle("no", label < 0);
    cell.classList.toggle("chosen", Boolean(own && this.chosen.has(own.key)));
    cell.classList.toggle("at", at === this.at);
    if (own && cell.told !== label) {
      cell.told = label;
      const name = own.row?.name.split("/").pop() ?? "";
      cell.title = `${own.score.toFixed(3)} · ${name}`;
      const words = label > 0 ? ", a particle" : label < 0 ? ", not a particle" : "";
      cell.setAttribute("aria-label", `score ${own.score.toFixed(3)}, ${name}${words}`);
    }
    const sheet = this.sheets.get(Math.floor(at / SHEET));
    if (sheet?.url && cell.sheet !== sheet) {
      cell.sheet = sheet;
      const scale = this.shownSide / SOURCE;
      const place = at % SHEET;
      cell.style.backgroundImage = `url(${sheet.url})`;
      cell.style.backgroundSize = `${COLUMNS * SOURCE * scale}px auto`;
      cell.style.backgroundPosition = `${-(place % COLUMNS) * this.shownSide}px ${-Math.floor(place / COLUMNS) * this.shownSide}px`;
    }
  }

  // Two sheets at a time, those on screen first; what has left the screen is no longer waited for.
  async fetchSheets() {
    const [first, last] = this.range();
    const near = (sheet) => sheet * SHEET < last && (sheet + 1) * SHEET > first;
    for (const [number, sheet] of this.sheets) {
      if (!near(number) && !sheet.url) {
        sheet.stop.abort();
        this.sheets.delete(number);
      }
    }
    for (let number = Math.floor(first / SHEET); number * SHEET < last; number += 1) {
      const loading = [...this.sheets.values()].filter((sheet) => !sheet.url).length;
      if (this.sheets.has(number) || loading >= 2) continue;
      const sheet = { stop: new AbortController(), url: null };
      this.sheets.set(number, sheet);
      this.fetchSheet(number, sheet);
    }
    const kept = [...this.sheets].filter(([number, sheet]) => sheet.url && !near(number));
    for (const [number, sheet] of kept.slice(0, Math.max(0, kept.length - MOST_SHEETS))) {
      URL.revokeObjectURL(sheet.url);
      this.sheets.delete(number);
    }
  }

  async fetchSheet(number, sheet) {
    const { version } = this;
    try {
      const answer = await fetch(`/api/particles/sheet?${this.query(number * SHEET, SHEET)}`, { signal: sheet.stop.signal });
      if (!answer.ok) throw new Error((await answer.json()).error);
      const blob = await answer.blob();
      if (this.version !== version || this.sheets.get(number) !== sheet) return;
      sheet.url = URL.createObjectURL(blob);
    } catch (error) {
      this.sheets.delete(number);
      if (error.name !== "AbortError") this.onTrouble(error);
      return;
    }
    this.paint();
  }

  // ---- choosing and marking

  under(event) {
    const cell = event.target.closest(".cut-out");
    return cell ? this.particle(Number(cell.dataset.at)) : null;
  }

  down(event) {
    const own = this.under(event);
    if (!own || event.button !== 0) return;
    this.press = { from: own.at, to: own.at, moved: false, shift: event.shiftKey, before: new Set(this.chosen) };
  }

  dragged(event) {
    if (!this.press || event.buttons === 0) return;
    const cell = document.elementFromPoint(event.clientX, event.clientY)?.closest(".cut-out");
    const to = cell ? Number(cell.dataset.at) : this.press.to;
    if (to === this.press.to) return;
    Object.assign(this.press, { to, moved: true });
    this.chosen = new Set(this.press.before);
    this.choose(this.press.from, to);
  }

  up(event) {
    const { press } = this;
    this.press = null;
    if (!press || event.type === "pointercancel") return;
    const own = this.particle(press.from);
    if (press.moved || !own) return;
    this.at = own.at;
    if (press.shift) {
      this.choose(this.anchor, own.at);
      return;
    }
    this.anchor = own.at;
    if (this.click === "choose" || event.ctrlKey || event.metaKey) this.toggle(own);
    else this.mark([own], this.click === "reject" ? -1 : 1);
    this.paint();
  }

  toggle(own) {
    if (!this.chosen.delete(own.key)) this.chosen.add(own.key);
    this.changed();
  }

  choose(from, to) {
    for (let at = Math.min(from, to); at <= Math.max(from, to); at += 1) {
      const own = this.particle(at);
      if (own) this.chosen.add(own.key);
    }
    this.changed();
  }

  clear() {
    this.chosen.clear();
    this.changed();
  }

  changed() {
    this.paint();
    this.onChosen(this);
  }

  // Those that were chosen, else the one that is looked at.
  meant() {
    const all = [];
    for (const [part, told] of this.told) {
      if (!Array.isArray(told)) continue;
      told.forEach((_, i) => {
        const own = this.particle(part * TOLD + i);
        if (this.chosen.has(own.key)) all.push(own);
      });
    }
    const one = this.particle(this.at);
    return all.length || !one ? all : [one];
  }

  // The same mark again takes it away.
  mark(particles, kind) {
    if (!particles.length) return;
    const all = particles.every((own) => this.labels.get(own.key) === kind);
    const label = all ? 0 : kind;
    for (const own of particles) {
      if (label) this.labels.set(own.key, label);
      else this.labels.delete(own.key);
    }
    this.paint();
    this.onMark(particles, label);
  }

  open(own) {
    if (own) this.onOpen(own);
  }

  key(event) {
    const { columns } = this.layout();
    const page = Math.max(1, Math.floor(this.scroller.clientHeight / (this.shownSide + GAP)) - 1) * columns;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, PageUp: -page, PageDown: page, Home: -Infinity, End: Infinity };
    const step = steps[event.key];
    const key = event.key.toLowerCase();
    if (step !== undefined) {
      this.at = Math.min((this.total ?? 1) - 1, Math.max(0, this.at + step));
      if (event.shiftKey) this.choose(this.anchor, this.at);
      else this.anchor = this.at;
      this.reveal();
    } else if ((event.ctrlKey || event.metaKey) && key === "z") {
      this.onUndo();
    } else if (event.ctrlKey || event.metaKey || event.altKey) {
      return;
    } else if (key === " ") {
      const own = this.particle(this.at);
      if (own) this.toggle(own);
    } else if (key === "x") {
      this.mark(this.meant(), -1);
    } else if (event.key === "Enter") {
      this.mark(this.meant(), 1);
    } else if (key === "o") {
      this.open(this.particle(this.at));
    } else if (event.key === "Escape") {
      this.clear();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  reveal() {
    const { columns, side } = this.layout();
    reveal(this.scroller, Math.floor(this.at / columns) * (side + GAP), side);
    this.paint();
  }
}
