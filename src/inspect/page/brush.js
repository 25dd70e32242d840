// Areas that are no particles: strokes of a round brush, and what an eraser leaves of them.

// A stroke goes on to a place, if that is far enough for a new point.
export function extend(stroke, x, y) {
  const [lastX, lastY] = stroke.points.at(-1);
  if (Math.hypot(x - lastX, y - lastY) < stroke.radius / 4) return false;
  stroke.points.push([x, y]);
  return true;
}

// Points along a line, near enough to each other that an eraser finds them all.
function dense({ radius, points }) {
  const all = [points[0]];
  for (let at = 1; at < points.length; at += 1) {
    const [[x0, y0], [x1, y1]] = [points[at - 1], points[at]];
    const steps = Math.max(1, Math.ceil(Math.hypot(x1 - x0, y1 - y0) / (radius / 2)));
    for (let step = 1; step <= steps; step += 1) {
      all.push([x0 + ((x1 - x0) * step) / steps, y0 + ((y1 - y0) * step) / steps]);
    }
  }
  return all;
}

// What is left of strokes after an eraser has gone over a place. Strokes that it does not touch stay the
// same objects.
export function erased(strokes, x, y, reach) {
  return strokes.flatMap((stroke) => {
    const hit = ([px, py]) => Math.hypot(px - x, py - y) < reach;
    const points = dense(stroke);
    if (!points.some(hit)) return [stroke];
    const parts = [[]];
    for (const point of points) {
      if (!hit(point)) parts.at(-1).push(point);
      else if (parts.at(-1).length) parts.push([]);
    }
    return parts.filter((part) => part.length).map((part) => ({ radius: stroke.radius, points: part }));
  });
}

// Hatched, so that the colour is not all that tells it.
export function paintAreas(context, strokes, { zoom, x, y, width, height }) {
  const dpr = devicePixelRatio;
  const layer = new OffscreenCanvas(width * dpr, height * dpr);
  const own = layer.getContext("2d");
  const tile = new OffscreenCanvas(10, 10);
  const lines = tile.getContext("2d");
  lines.fillStyle = "rgba(255,122,200,.34)";
  lines.fillRect(0, 0, 10, 10);
  lines.strokeStyle = "rgba(255,122,200,.95)";
  lines.lineWidth = 1.4;
  for (const from of [-10, 0, 10]) {
    lines.beginPath();
    lines.moveTo(from, 10);
    lines.lineTo(from + 10, 0);
    lines.stroke();
  }
  const pattern = own.createPattern(tile, "repeat");
  own.lineCap = own.lineJoin = "round";
  for (const { radius, points } of strokes) {
    const path = new Path2D();
    points.forEach(([px, py], at) => {
      const to = [((px + 0.5) * zoom + x) * dpr, ((py + 0.5) * zoom + y) * dpr];
      if (at === 0) path.moveTo(to[0] - 0.01, to[1]);
      path.lineTo(...to);
    });
    own.lineWidth = 2 * radius * zoom * dpr;
    // Where strokes cross, the pattern stands once.
    own.globalCompositeOperation = "destination-out";
    own.strokeStyle = "#000";
    own.stroke(path);
    own.globalCompositeOperation = "source-over";
    own.strokeStyle = pattern;
    own.stroke(path);
  }
  context.save();
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.drawImage(layer, 0, 0);
  context.restore();
}
