// How one micrograph is shown: contrast, low-pass, circles, the probability map.

import { mapOf } from "./colours.js";
import { $, hasPicks, page } from "./shared.js";

export class Display {
  constructor({ viewer, note }) {
    this.viewer = viewer;
    this.note = note;
    for (const id of ["contrast", "brightness", "smooth"]) $(id).addEventListener("input", () => this.filter());
    $("map").addEventListener("change", () => this.showMap());
    $("map-share").addEventListener("input", () => {
      viewer.mapShare = Number($("map-share").value) / 100;
      viewer.draw();
    });
    for (const id of ["circles", "below"]) {
      $(id).addEventListener("change", () => {
        viewer[id] = $(id).checked;
        viewer.draw();
      });
    }
  }

  // A low-pass in px of the micrograph, whatever it is zoomed to.
  filter() {
    const smooth = Number($("smooth").value);
    $("smooth-value").textContent = smooth ? `${smooth} px` : "off";
    const blur = smooth * this.viewer.zoom * 0.5;
    this.viewer.base.style.filter =
      `brightness(${$("brightness").value}%) contrast(${$("contrast").value}%)${blur > 0.2 ? ` blur(${blur.toFixed(2)}px)` : ""}`;
  }

  // The probability map is computed when it is first asked for, and no longer waited for when it is not.
  async showMap() {
    const { viewer } = this;
    this.leave();
    viewer.map = null;
    viewer.draw();
    const { current } = page;
    if (!$("map").checked || !current || !hasPicks()) return this.note(current?.failed);
    this.asked = new AbortController();
    const { signal } = this.asked;
    const slow = setTimeout(() => signal.aborted || this.note("Computing the probability map…"), 250);
    try {
      const answer = await fetch(`/api/micrographs/${current.id}/map`, { signal });
      if (!answer.ok) {
        const { error, hint } = await answer.json();
        throw Object.assign(new Error(error), { hint });
      }
      const map = await mapOf(await answer.blob());
      if (signal.aborted) return;
      viewer.map = map;
      viewer.draw();
      this.note(current.failed);
    } catch (error) {
      if (error.name !== "AbortError") this.note([error.message, error.hint].filter(Boolean).join(". "));
    } finally {
      clearTimeout(slow);
    }
  }

  leave() {
    this.asked?.abort();
  }
}
