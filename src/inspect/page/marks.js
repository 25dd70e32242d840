// What is drawn on a micrograph: picks, labels, and what the last round has changed. `view` is the viewer: its
// position, and what it shows.

import { SHADES, own, shade } from "./colours.js";

// Picks that the last round has gained and lost: shapes of their own, in colours that all eyes tell apart.
const GAINED = "#ffa23a";
const LOST = "#8fd0ff";
const NOT = "#ff7ac8";
// Circles up to this radius on screen are copied, larger ones are few.
const STAMPED = 80;
// More marks than this take longer to draw than a frame lasts.
const CROWD = 600;
// The layer of marks extends by this share of the stage beyond each of its sides.
const MARGIN = 0.25;
// A copy of the layer is enlarged up to this factor while the view moves.
const STRETCH = 1.5;

const place = (view) => ([x, y]) => [(x + 0.5) * view.zoom + view.x, (y + 0.5) * view.zoom + view.y];

const ring = (context, [x, y], radius) => {
  context.moveTo(x + radius, y);
  context.arc(x, y, radius, 0, 2 * Math.PI);
};

// One path a colour: there can be thousands of circles.
const rings = (context, points, radius, colour, width, dash = []) => {
  if (!points.length) return;
  context.beginPath();
  points.forEach((point) => ring(context, point, radius));
  context.setLineDash(dash);
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.stroke();
  context.setLineDash([]);
};

const shown = (view) => Math.max(2.5, view.radius * view.zoom);

// Marks that stay where they are in the micrograph, drawn once and copied while the view moves.
export class Marks {
  constructor() {
    this.canvas = new OffscreenCanvas(1, 1);
    this.stamps = { size: "", of: [] };
  }

  // Draws all marks; they are drawn anew where something has `changed`, or the copy does not do. Says whether the
  // copy was enlarged or reduced, so that it is less sharp than marks drawn anew.
  paint(context, view, changed) {
    const { at } = this;
    if (changed || !at || at.count <= CROWD || !this.covers(view)) this.drawAnew(view);
    const { left, top, width, height } = this.placed(view);
    context.drawImage(this.canvas, left, top, width, height);
    return this.at.zoom !== view.zoom;
  }

  // Where the layer lies on the stage now.
  placed(view) {
    const { x, y, zoom, marginX, marginY } = this.at;
    const by = view.zoom / zoom;
    return {
      left: view.x - (x + marginX) * by,
      top: view.y - (y + marginY) * by,
      width: (this.canvas.width / devicePixelRatio) * by,
      height: (this.canvas.height / devicePixelRatio) * by,
    };
  }

  // Whether the layer has all of the micrograph that is on the stage, about in its size.
  covers(view) {
    const by = view.zoom / this.at.zoom;
    if (by > STRETCH || by < 1 / STRETCH) return false;
    const { left, top, width, height } = this.placed(view);
    const { info, x, y, zoom } = view;
    return left <= Math.max(0, x) && top <= Math.max(0, y)
      && left + width >= Math.min(view.width, x + info.width * zoom)
      && top + height >= Math.min(view.height, y + info.height * zoom);
  }

  drawAnew(view) {
    // In whole px of the screen: a copy beside them is not sharp.
    const margin = (side) => Math.ceil(side * MARGIN * devicePixelRatio) / devicePixelRatio;
    const [marginX, marginY] = [margin(view.width), margin(view.height)];
    const { canvas } = this;
    const width = Math.round((view.width + 2 * marginX) * devicePixelRatio);
    const height = Math.round((view.height + 2 * marginY) * devicePixelRatio);
    const context = canvas.getContext("2d");
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, marginX * devicePixelRatio, marginY * devicePixelRatio);
    const near = shown(view) + 4;
    const seen = ([x, y]) =>
      x > -near - marginX && y > -near - marginY && x < view.width + near + marginX && y < view.height + near + marginY;
    this.at = { x: view.x, y: view.y, zoom: view.zoom, marginX, marginY, count: 0 };
    this.drawPicks(context, view, seen);
    this.drawLabels(context, view, seen);
    if (view.chosen) rings(context, [place(view)(view.chosen)], shown(view) + 5, own("--accent"), 2);
  }

  drawPicks(context, view, seen) {
    if (!view.circles) return;
    const radius = shown(view);
    const line = Math.max(1.2, Math.min(2.4, radius / 7));
    const { positives, negatives } = view.labels;
    const key = ([x, y]) => `${Math.round(x)},${Math.round(y)}`;
    const labelled = new Set([...positives, ...negatives].map(key));
    const placed = place(view);
    const shades = SHADES.map(() => []);
    const low = [];
    for (const peak of view.visible()) {
      const at = placed(peak);
      if (!seen(at) || labelled.has(key(peak))) continue;
      if (peak[2] < view.threshold) low.push(at);
      else shades[shade(peak[2])].push(at);
      this.at.count += 1;
    }
    rings(context, low, radius, "rgba(255,255,255,.75)", 1.2, [4, 4]);
    if (radius <= STAMPED) {
      shades.forEach((points, step) => {
        if (!points.length) return;
        const stamp = this.stamp(step, radius, line);
        const half = stamp.width / devicePixelRatio / 2;
        for (const [x, y] of points) context.drawImage(stamp, x - half, y - half, 2 * half, 2 * half);
      });
    } else {
      rings(context, shades.flat(), radius, "rgba(0,0,0,.45)", line + 1.6);
      shades.forEach((points, step) => rings(context, points, radius, SHADES[step], line));
    }
    if (view.changes) changedPicks(context, view.changes, placed, seen, radius + 4, line);
  }

  // A circle of one colour, drawn once for each size.
  stamp(step, radius, line) {
    const size = `${radius.toFixed(2)} ${devicePixelRatio}`;
    if (this.stamps.size !== size) this.stamps = { size, of: [] };
    const { of } = this.stamps;
    if (!of[step]) {
      const side = Math.ceil((radius + line + 2) * 2 * devicePixelRatio);
      const canvas = new OffscreenCanvas(side, side);
      const context = canvas.getContext("2d");
      context.scale(devicePixelRatio, devicePixelRatio);
      const middle = side / devicePixelRatio / 2;
      rings(context, [[middle, middle]], radius, "rgba(0,0,0,.45)", line + 1.6);
      rings(context, [[middle, middle]], radius, SHADES[step], line);
      of[step] = canvas;
    }
    return of[step];
  }

  drawLabels(context, view, seen) {
    const radius = shown(view);
    const line = Math.max(1.2, Math.min(2.4, radius / 7));
    const [yes, no] = [view.labels.positives, view.labels.negatives].map((own) => own.map(place(view)).filter(seen));
    this.at.count += yes.length + no.length;
    rings(context, yes, radius, "rgba(0,0,0,.7)", line + 3);
    rings(context, yes, radius, "#fff", line + 0.8);
    context.fillStyle = "#fff";
    context.strokeStyle = "rgba(0,0,0,.7)";
    context.lineWidth = 1;
    for (const at of yes) {
      context.beginPath();
      ring(context, at, Math.max(1.8, radius / 8));
      context.stroke();
      context.fill();
    }
    rings(context, no, radius, "rgba(0,0,0,.35)", line + 2);
    rings(context, no, radius, NOT, line + 0.4, [6, 3]);
    context.beginPath();
    const arm = Math.max(3, radius * 0.4);
    for (const [x, y] of no) {
      context.moveTo(x - arm, y - arm);
      context.lineTo(x + arm, y + arm);
      context.moveTo(x + arm, y - arm);
      context.lineTo(x - arm, y + arm);
    }
    context.strokeStyle = NOT;
    context.lineWidth = line;
    context.stroke();
  }
}

// A diamond around a pick that is new, a dashed square where one was.
function changedPicks(context, changes, placed, seen, half, line) {
  const outline = (places, corners, colour, dash) => {
    context.beginPath();
    for (const [x, y] of places.map(placed).filter(seen)) {
      corners.forEach(([dx, dy], at) => (at ? context.lineTo(x + dx, y + dy) : context.moveTo(x + dx, y + dy)));
      context.closePath();
    }
    context.setLineDash(dash);
    for (const [style, width] of [["rgba(0,0,0,.5)", line + 2], [colour, line]]) {
      context.strokeStyle = style;
      context.lineWidth = width;
      context.stroke();
    }
    context.setLineDash([]);
  };
  const far = half * 1.42;
  outline(changes.lost, [[-half, -half], [half, -half], [half, half], [-half, half]], LOST, [5, 4]);
  outline(changes.gained, [[0, -far], [far, 0], [0, far], [-far, 0]], GAINED, []);
}

// What follows the pointer: what a click would add, in its true size; the brush; what is being measured.
export function paintPointer(context, view) {
  const ghosts = [];
  if (view.tool === "label" && view.pointer) ghosts.push(view.pointer);
  if (view.ring) ghosts.push(place(view)(view.ring.at));
  rings(context, ghosts, shown(view), "rgba(0,0,0,.6)", 4.5);
  rings(context, ghosts, shown(view), "#8fd0ff", 2, [7, 3]);
  if (view.tool === "brush" && view.pointer) {
    rings(context, [view.pointer], view.brush * view.zoom, "rgba(0,0,0,.6)", 3);
    rings(context, [view.pointer], view.brush * view.zoom, NOT, 1.5);
  }
}
