// The histogram of scores with the threshold on it.

import { SHADES, own, shade } from "./colours.js";

export class Threshold {
  constructor({ onMove }) {
    this.canvas = document.getElementById("bars");
    this.slider = document.getElementById("slider");
    this.value = 0.5;
    this.floor = 0;
    this.all = [];
    this.here = null;
    this.slider.step = 0.005;
    this.slider.max = 1;
    this.slider.addEventListener("input", () => {
      // The slider knows steps, and the threshold that is applied may lie between two.
      this.value = Number(this.slider.value);
      this.draw();
      onMove(this.value);
    });
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  set(floor, value, counts) {
    this.floor = floor;
    this.all = counts;
    this.slider.min = floor;
    document.getElementById("axis-from").textContent = floor.toFixed(2);
    this.move(value);
  }

  move(value) {
    this.value = Math.min(1, Math.max(this.floor, value));
    this.slider.value = this.value;
    this.draw();
  }

  // Scores of the micrograph that is looked at, or none.
  look(scores) {
    this.here = scores && this.binned(scores);
    this.draw();
  }

  binned(scores) {
    const bins = new Array(this.all.length).fill(0);
    for (const score of scores) bins[Math.min(bins.length - 1, Math.floor(score * bins.length))] += 1;
    return bins;
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width) return;
    const dpr = devicePixelRatio;
    this.canvas.width = width * dpr;
    this.canvas.height = height * dpr;
    const context = this.canvas.getContext("2d");
    context.scale(dpr, dpr);
    const at = (score) => ((score - this.floor) / (1 - this.floor)) * width;
    const bars = (bins, paint) => {
      // Square roots: thousands of low peaks must not hide a hundred good ones.
      const most = Math.sqrt(Math.max(1, ...bins));
      bins.forEach((count, bin) => {
        const [from, to] = [at(bin / bins.length), at((bin + 1) / bins.length)];
        if (to <= 0 || !count) return;
        const tall = Math.max(1.5, (Math.sqrt(count) / most) * (height - 8));
        paint((bin + 0.5) / bins.length);
        context.fillRect(Math.max(0, from) + 0.5, height - tall, to - Math.max(0, from) - 1, tall);
      });
    };
    const colour = (score) => {
      context.globalAlpha = score < this.value ? 0.35 : 1;
      context.fillStyle = SHADES[shade(score)];
    };
    if (this.here) {
      bars(this.all, () => {
        context.globalAlpha = 1;
        context.fillStyle = own("--bar");
      });
      bars(this.here, colour);
    } else {
      bars(this.all, colour);
    }
    context.globalAlpha = 1;
    const x = Math.min(width - 1.5, Math.max(1.5, at(this.value)));
    context.fillStyle = own("--ink");
    context.fillRect(x - 1, 0, 2, height);
    context.beginPath();
    context.arc(x, 6, 5, 0, 7);
    context.fill();
  }
}
