// Where a run has no picks yet: the particle radius, and picking with it.

import { ask } from "./api.js";
import { $, page, toast, told, words } from "./shared.js";

export class Begin {
  constructor({ onRadius, onPicked }) {
    this.onRadius = onRadius;
    this.onPicked = onPicked;
    $("radius").addEventListener("change", () => this.use(Number($("radius").value)));
    $("pick-all").addEventListener("click", () => this.pick().catch(told));
    $("pick-stop").addEventListener("click", () => {
      const path = this.looking ? "/api/radius" : "/api/picking";
      ask(path, { method: "DELETE" }).catch(told);
    });
    $("find-radius").addEventListener("click", () => this.find().catch(told));
  }

  // What was measured in this run before the page was loaded again; another run has other particles.
  remember() {
    $("radius").value = localStorage.getItem(this.key()) ?? "";
  }

  key() {
    return `picker-radius ${page.run.run}`;
  }

  use(radius) {
    if (!(radius >= 2)) return;
    $("radius").value = radius;
    localStorage.setItem(this.key(), radius);
    this.onRadius(radius);
  }

  show(working, done, total) {
    for (const id of ["pick-all", "find-radius"]) $(id).disabled = working || page.run.read_only;
    $("pick-stop").classList.toggle("hidden", !working);
    $("bar").classList.toggle("hidden", !working);
    $("bar").firstElementChild.style.width = `${(100 * done) / Math.max(1, total)}%`;
  }

  async find() {
    await ask("/api/radius", { method: "POST" });
    this.looking = true;
    for (;;) {
      const { data } = await ask("/api/radius");
      const { phase, done, total, radius_px: radius, sure, error } = data.radius;
      const working = phase === "looking";
      this.show(working, done, total);
      if (working) $("pick-told").textContent = total ? `Trying radii: ${done} of ${words(total, "micrograph")}` : "Trying radii…";
      else if (phase === "failed") $("pick-told").textContent = error;
      else if (phase === "stopped") $("pick-told").textContent = "Stopped.";
      else if (!radius) $("pick-told").textContent = "No radius is clearly best: measure it on a particle.";
      else {
        this.use(Math.round(radius * 2) / 2);
        $("pick-told").textContent = sure ? `${radius.toFixed(1)} px: sure.` : `${radius.toFixed(1)} px: likely, but look at the ring on a particle.`;
      }
      if (!working) break;
      await new Promise((resolve) => setTimeout(resolve, 400));
    }
    this.looking = false;
  }

  async pick() {
    const radius = Number($("radius").value);
    if (!(radius >= 2)) return toast("Enter the particle radius first", true);
    await ask("/api/picking", { method: "POST", body: { radius_px: radius } });
    await this.follow();
  }

  async follow() {
    for (;;) {
      const { data } = await ask("/api/picking");
      const { phase, done, total, picks, error } = data.picking;
      const working = phase === "picking";
      this.show(working, done, total);
      if (working) $("pick-told").textContent = `${done} of ${words(total, "micrograph")}, ${words(picks, "pick")}`;
      else if (phase === "failed") $("pick-told").textContent = error;
      else if (phase === "stopped") $("pick-told").textContent = "Stopped; the next picking continues from there.";
      if (phase === "done") {
        await this.onPicked();
        toast(`${words(picks, "pick")} on ${words(total, "micrograph")}`);
      }
      if (!working) return;
      await new Promise((resolve) => setTimeout(resolve, 400));
    }
  }
}
