// The threshold: moved with live counts, applied to all micrographs or to the one that is looked at.

import { ask } from "./api.js";
import { $, hasPicks, page, segments, toast, told, words } from "./shared.js";
import { Threshold } from "./threshold.js";

export class Cut {
  constructor({ onMove, onApplied }) {
    this.onMove = onMove;
    this.onApplied = onApplied;
    this.scope = "all";
    this.asking = false;
    this.asked = null;
    this.threshold = new Threshold({ onMove: () => this.moved() });
    this.pressScope = segments("scope", "scope", (scope) => this.use(scope));
    $("reset").addEventListener("click", () => this.move(this.applied()));
    $("apply").addEventListener("click", () => this.apply());
    $("common").addEventListener("click", () => this.applyHere(null));
  }

  get value() {
    return this.threshold.value;
  }

  // What the picks that the slider is about were cut at.
  applied() {
    return this.scope === "one" ? (page.current?.threshold ?? page.applied) : page.applied;
  }

  // The threshold of the micrograph that is looked at.
  here() {
    return this.scope === "one" ? this.value : (page.current?.threshold ?? this.value);
  }

  // The threshold of the others.
  common() {
    return this.scope === "one" ? this.before : this.value;
  }

  move(value) {
    this.threshold.move(value);
    this.moved();
  }

  use(scope) {
    if (scope === this.scope) return;
    const all = this.scope === "all" ? this.value : this.before;
    this.before = all;
    this.scope = scope;
    this.pressScope(scope);
    this.move(scope === "one" ? (page.current?.threshold ?? all) : all);
  }

  // With another micrograph, or none, the slider is about all again, unless this one has its own.
  look(scores) {
    this.threshold.look(scores);
    $("common-row").classList.toggle("hidden", typeof page.current?.threshold !== "number");
    this.use(typeof page.current?.threshold === "number" ? "one" : "all");
    this.moved();
  }

  moved() {
    $("cut-value").textContent = this.value.toFixed(3);
    const here = page.info?.peaks.filter((peak) => peak[2] >= this.here()).length;
    $("count-here").textContent = here?.toLocaleString("en") ?? "–";
    const same = Math.abs(this.value - (this.applied() ?? 0)) < 1e-6;
    const isNew = this.scope === "one" && typeof page.current?.threshold !== "number";
    $("apply").disabled = (same && !isNew) || page.run.read_only || !hasPicks();
    $("reset").disabled = same || !hasPicks();
    this.onMove();
    this.count();
  }

  async count() {
    // One request at a time, and always the last value.
    if (this.asking || !hasPicks()) return;
    this.asking = true;
    try {
      while (this.asked !== this.common()) {
        this.asked = this.common();
        const { data } = await ask(`/api/counts?threshold=${this.asked}`);
        page.counts = data.counts;
        this.total = data.total;
      }
      this.show();
    } catch (error) {
      told(error);
    } finally {
      this.asking = false;
    }
  }

  show() {
    let total = this.total ?? 0;
    if (this.scope === "one" && page.info && page.counts && !page.current.excluded) {
      const here = page.info.peaks.filter((peak) => peak[2] >= this.value).length;
      total += here - page.counts[page.current.place];
    }
    const before = page.rows.reduce((sum, row) => sum + (row.picks ?? 0), 0);
    $("count-all").textContent = total.toLocaleString("en");
    const change = total - before;
    $("count-change").textContent = change > 0 ? `+${change.toLocaleString("en")}` : change.toLocaleString("en").replace("-", "−");
    $("totals").textContent = `${words(page.rows.length, "micrograph")} · ${words(total, "pick")}`;
    const own = page.rows.filter((row) => row.threshold !== null && !row.excluded).length;
    $("cut-note").textContent = own ? `${words(own, "micrograph has", "micrographs have")} a threshold of ${own === 1 ? "its" : "their"} own and keep${own === 1 ? "s" : ""} it.` : "";
    this.onCounted?.();
  }

  async apply() {
    if (this.scope === "one") return this.applyHere(this.value);
    await this.change("/api/threshold", "POST", { threshold: this.value }, (data) => {
      page.applied = this.value;
      return `${words(data.picks, "pick")} on ${words(data.micrographs, "micrograph")}: all lists are written`;
    });
  }

  async applyHere(threshold) {
    await this.change(`/api/micrographs/${page.current.id}/threshold`, "PUT", { threshold }, (data) =>
      `${words(data.picks, "pick")} here: all lists are written`);
    $("common-row").classList.toggle("hidden", threshold === null);
    if (threshold === null) this.use("all");
  }

  async change(path, method, body, done) {
    $("apply").disabled = true;
    $("apply").textContent = "Applying…";
    try {
      const { data } = await ask(path, { method, body });
      const text = done(data);
      await this.onApplied();
      toast(text);
    } catch (error) {
      told(error);
    }
    $("apply").textContent = "Apply";
    this.asked = null;
    this.moved();
  }
}
