// The view of all particles: the gallery, what was chosen in it, and means.

import { ask } from "./api.js";
import { Gallery } from "./gallery.js";
import { RunningMean, centred, drawMean } from "./mean.js";
import { $, page, segments, told, words } from "./shared.js";

export class Particles {
  constructor({ threshold, labels }) {
    this.labels = labels;
    this.past = [];
    this.mean = new RunningMean({ onTrouble: told });
    this.gallery = new Gallery({
      rows: () => page.rows,
      threshold,
      onMark: (particles, label) => this.mark(particles, label),
      onUndo: () => this.undo(),
      onOpen: (own) => (location.hash = `${own.row.id}/${Math.round(own.x)},${Math.round(own.y)}`),
      onChosen: () => this.chosen(),
      onTrouble: told,
    });
    segments("gallery-sort", "sort", (sort) => {
      this.gallery.sort = sort;
      this.gallery.show().catch(told);
    });
    segments("gallery-click", "click", (click) => (this.gallery.click = click));
    $("gallery-size").addEventListener("input", () => {
      this.gallery.side = Number($("gallery-size").value);
      this.gallery.paint();
    });
    $("chosen-no").addEventListener("click", () => this.gallery.mark(this.gallery.meant(), -1));
    $("chosen-yes").addEventListener("click", () => this.gallery.mark(this.gallery.meant(), 1));
    $("chosen-none").addEventListener("click", () => this.gallery.clear());
    $("chosen-mean").addEventListener("click", () => this.meanOfChosen().catch(told));
  }

  get isShown() {
    return document.body.dataset.view === "gallery";
  }

  async show() {
    this.gallery.scroller.focus({ preventScroll: true });
    this.mean.show();
    // Coming back to the same picks finds them as they were left.
    const cut = this.gallery.threshold();
    if (this.gallery.total !== null && this.of === page.run.picks_version && this.gallery.cut === cut) return this.gallery.paint();
    this.of = page.run.picks_version;
    await this.gallery.show();
  }

  hide() {
    this.mean.hide();
  }

  // The threshold has moved: the order is made anew once it rests.
  moved() {
    if (!this.isShown) return;
    clearTimeout(this.resting);
    this.resting = setTimeout(() => this.show().catch(told), 300);
  }

  draw() {
    this.mean.draw();
  }

  chosen() {
    const count = this.gallery.chosen.size;
    $("chosen-count").textContent = count ? words(count, "particle") : "none";
    for (const id of ["chosen-no", "chosen-yes"]) $(id).disabled = !count || page.run.read_only;
    for (const id of ["chosen-mean", "chosen-none"]) $(id).disabled = !count;
    $("chosen-shown").classList.add("hidden");
  }

  async meanOfChosen() {
    const particles = this.gallery.meant().map((own) => [own.place, own.number]);
    const { data } = await ask("/api/particles/mean", { method: "POST", body: { version: this.gallery.version, particles } });
    $("chosen-shown").classList.remove("hidden");
    drawMean($("mean-chosen"), data.mean);
    $("chosen-centre").textContent = data.mean ? `${words(data.mean.count, "particle")}. ${centred(data.mean)}` : "";
  }

  // One change a micrograph; all of them are one step back.
  async mark(particles, label) {
    if (page.run.read_only) return;
    const by = new Map();
    for (const own of particles) by.set(own.row.id, [...(by.get(own.row.id) ?? []), [own.x, own.y]]);
    this.past.push([...by.keys()]);
    for (const [id, places] of by) {
      try {
        this.labels.mark(await this.labels.open(id), places, label);
      } catch (error) {
        told(error);
      }
    }
  }

  undo() {
    for (const id of this.past.pop() ?? []) this.labels.undo(this.labels.all.get(id));
  }

  // Labels of a micrograph have changed, here or elsewhere.
  labelled(own) {
    const place = page.rows.findIndex((row) => row.id === own.id);
    if (place < 0 || this.gallery.total === null) return;
    const at = (points) => new Set(points.map(([x, y]) => `${Math.round(x)},${Math.round(y)}`));
    const [yes, no] = [at(own.set.positives), at(own.set.negatives)];
    for (const part of this.gallery.told.values()) {
      if (!Array.isArray(part)) continue;
      for (const [of, number, x, y] of part) {
        if (of !== place) continue;
        const here = `${Math.round(x)},${Math.round(y)}`;
        const label = yes.has(here) ? 1 : no.has(here) ? -1 : 0;
        if (label) this.gallery.labels.set(`${of}:${number}`, label);
        else this.gallery.labels.delete(`${of}:${number}`);
      }
    }
    if (this.isShown) this.gallery.paint();
  }
}
