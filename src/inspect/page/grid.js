// Thumbnails of all micrographs. Only those on screen are in the page, however many there are.

import { picture } from "./api.js";
import { reveal } from "./shared.js";

const CAPTION = 50;
const GAP = 10;

const FILTERS = {
  all: ["All", () => true],
  none: ["No picks", (row, picks) => !row.failed && picks === 0],
  failed: ["Failed", (row) => row.failed],
  labelled: ["Labelled", (row) => row.labels.state !== "unseen"],
  unseen: ["To do", (row) => row.labels.state === "unseen" && !row.excluded],
  out: ["Excluded", (row) => row.excluded],
};

const byNumber = (value) => (a, b) => (value(a) ?? -1) - (value(b) ?? -1);
const ORDERS = {
  list: null,
  name: () => (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }),
  fewest: (picks) => byNumber(picks),
  most: (picks) => (a, b) => byNumber(picks)(b, a),
  worst: () => byNumber((row) => row.mean_score),
  best: () => (a, b) => byNumber((row) => row.mean_score)(b, a),
  labels: () => (a, b) => byNumber((row) => row.labels.positives + row.labels.negatives)(b, a),
};

const made = (tag, kind, text) => {
  const element = document.createElement(tag);
  if (kind) element.className = kind;
  if (text !== undefined) element.textContent = text;
  return element;
};

export class Grid {
  constructor({ onOpen, onExclude, picksOf }) {
    this.scroller = document.getElementById("scroller");
    this.cells = document.getElementById("cells");
    this.search = document.getElementById("search");
    this.sort = document.getElementById("sort");
    this.onOpen = onOpen;
    this.onExclude = onExclude;
    this.picksOf = picksOf;
    this.rows = [];
    this.shown = [];
    this.chosen = 0;
    this.filter = "all";
    this.picked = new Set();
    this.inPage = new Map();
    const filters = document.getElementById("filters");
    for (const [name, [title]] of Object.entries(FILTERS)) {
      const button = made("button", "", title);
      button.setAttribute("aria-pressed", name === "all");
      button.addEventListener("click", () => {
        this.filter = name;
        for (const other of filters.children) other.setAttribute("aria-pressed", other === button);
        this.arrange();
      });
      filters.append(button);
    }
    this.search.addEventListener("input", () => this.arrange());
    this.sort.addEventListener("change", () => this.arrange());
    this.scroller.addEventListener("scroll", () => this.paint(), { passive: true });
    this.scroller.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.paint()).observe(this.scroller);
  }

  show(rows) {
    this.rows = rows;
    this.arrange();
  }

  // Filters and sorts; to be called when rows change, not when the threshold moves.
  arrange() {
    const [, fits] = FILTERS[this.filter];
    const words = this.search.value.trim().toLowerCase();
    const shown = this.rows.filter((row) => row.name.toLowerCase().includes(words) && fits(row, this.picksOf(row)));
    const order = ORDERS[this.sort.value];
    if (order) shown.sort(order(this.picksOf));
    const chosen = this.shown[this.chosen]?.id;
    this.shown = shown;
    this.chosen = Math.max(0, shown.findIndex((row) => row.id === chosen));
    const all = this.rows.length;
    document.getElementById("shown").textContent = shown.length === all ? "" : `${shown.length} of ${all}`;
    this.forget();
    this.paint();
  }

  // Captions that follow the threshold or the labels.
  refresh() {
    for (const [at, cell] of this.inPage) this.caption(cell, this.shown[at]);
  }

  choose(id) {
    const at = this.shown.findIndex((row) => row.id === id);
    if (at >= 0) this.chosen = at;
  }

  layout() {
    const width = this.scroller.clientWidth - (matchMedia("(max-width: 760px)").matches ? 16 : 24);
    const columns = Math.max(2, Math.floor((width + GAP) / (190 + GAP)));
    const side = Math.floor((width - GAP * (columns - 1)) / columns);
    return { columns, side, height: side + CAPTION };
  }

  forget() {
    this.cells.replaceChildren();
    this.inPage.clear();
  }

  paint() {
    if (!this.scroller.clientWidth) return;
    const { columns, side, height } = this.layout();
    if (this.side !== side || this.columns !== columns) this.forget();
    [this.side, this.columns] = [side, columns];
    const lines = Math.ceil(this.shown.length / columns);
    this.cells.style.height = `${Math.max(0, lines * (height + GAP) - GAP)}px`;
    if (!this.shown.length && !this.cells.childElementCount) {
      this.cells.style.height = "";
      this.cells.append(made("div", "empty", this.rows.length ? "No micrograph fits." : "Loading…"));
      return;
    }
    const top = this.scroller.scrollTop;
    const first = Math.max(0, Math.floor(top / (height + GAP)) - 1) * columns;
    const last = Math.min(this.shown.length, (Math.ceil((top + this.scroller.clientHeight) / (height + GAP)) + 1) * columns);
    for (const [at, cell] of this.inPage) {
      if (at < first || at >= last) {
        cell.remove();
        this.inPage.delete(at);
      }
    }
    for (let at = first; at < last; at += 1) {
      const cell = this.inPage.get(at) ?? this.cell(at);
      const x = (at % columns) * (side + GAP);
      const y = Math.floor(at / columns) * (height + GAP);
      Object.assign(cell.style, { width: `${side}px`, height: `${height}px`, transform: `translate(${x}px, ${y}px)` });
      cell.classList.toggle("chosen", at === this.chosen);
      cell.classList.toggle("picked", this.picked.has(this.shown[at].id));
    }
  }

  cell(at) {
    const row = this.shown[at];
    const cell = made("div", "cell");
    cell.setAttribute("role", "gridcell");
    cell.title = row.name;
    const frame = made("div", "picture");
    if (row.failed) {
      frame.append(made("div", "failed", row.failed));
    } else {
      const image = made("img");
      image.alt = "";
      image.decoding = "async";
      image.src = picture(row.id, 256);
      image.addEventListener("error", () => frame.replaceChildren(made("div", "failed", "no picture")));
      frame.append(image);
    }
    const caption = made("div", "caption");
    const line = made("div");
    line.append(made("span", "looked"), made("span", "clip", row.name.split("/").pop()), made("span", "room"), made("b", "picks"));
    const bar = made("div", "score");
    bar.append(made("i"));
    caption.append(line, bar);
    cell.append(frame, caption);
    cell.addEventListener("click", (event) => {
      if (event.shiftKey) this.pickTo(at);
      else if (event.ctrlKey || event.metaKey) this.toggle(at);
      else {
        this.chosen = at;
        this.onOpen(row.id);
      }
    });
    this.caption(cell, row);
    this.cells.append(cell);
    this.inPage.set(at, cell);
    return cell;
  }

  caption(cell, row) {
    const picks = this.picksOf(row);
    cell.querySelector(".picks").textContent = row.failed ? "failed" : (picks ?? "–");
    cell.classList.toggle("excluded", row.excluded);
    cell.querySelector(".looked").className = `looked ${row.labels.state}`;
    const bar = cell.querySelector(".score i");
    bar.style.width = `${Math.round(100 * (row.mean_score ?? 0))}%`;
    const mean = row.mean_score === null ? "" : `, mean score ${row.mean_score.toFixed(2)}`;
    cell.setAttribute("aria-label", `${row.name}, ${picks ?? "no"} picks${mean}, labels ${row.labels.state}${row.excluded ? ", excluded" : ""}`);
  }

  // From the chosen one to another, all of them.
  pickTo(to) {
    for (let at = Math.min(this.chosen, to); at <= Math.max(this.chosen, to); at += 1) this.picked.add(this.shown[at].id);
    this.chosen = to;
    this.paint();
  }

  toggle(at) {
    const { id } = this.shown[at];
    if (!this.picked.delete(id)) this.picked.add(id);
    this.chosen = at;
    this.paint();
  }

  // Those that were picked out, else the chosen one.
  meant() {
    const all = this.rows.filter((row) => this.picked.has(row.id));
    const one = this.shown[this.chosen];
    return all.length || !one ? all : [one];
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns }[event.key];
    if (step && event.shiftKey) {
      this.pickTo(Math.min(this.shown.length - 1, Math.max(0, this.chosen + step)));
      this.reveal();
    } else if (event.key === " " && this.shown[this.chosen]) {
      this.toggle(this.chosen);
    } else if (event.key === "Escape") {
      this.picked.clear();
      this.paint();
    } else if (event.key === "Enter" && this.shown[this.chosen]) {
      this.onOpen(this.shown[this.chosen].id);
    } else if (event.key.toLowerCase() === "e" && this.shown[this.chosen]) {
      this.onExclude(this.meant());
      this.picked.clear();
      this.paint();
    } else if (step) {
      this.chosen = Math.min(this.shown.length - 1, Math.max(0, this.chosen + step));
      this.reveal();
    } else if (event.key === "Home" || event.key === "End") {
      this.chosen = event.key === "Home" ? 0 : this.shown.length - 1;
      this.reveal();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  reveal() {
    const { columns, height } = this.layout();
    reveal(this.scroller, Math.floor(this.chosen / columns) * (height + GAP), height);
    this.paint();
  }
}
