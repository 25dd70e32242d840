// Colours of scores: blue, turquoise, yellow; told apart with any colour vision, and on grey.

const STOPS = [[59, 141, 255], [38, 208, 206], [255, 224, 74]];
const STEPS = 24;

function between(at) {
  const along = Math.min(Math.max(at, 0), 1) * (STOPS.length - 1);
  const from = Math.min(Math.floor(along), STOPS.length - 2);
  const mix = STOPS[from].map((own, i) => Math.round(own + (STOPS[from + 1][i] - own) * (along - from)));
  return `rgb(${mix.join(" ")})`;
}

export const SHADES = Array.from({ length: STEPS }, (_, step) => between(step / (STEPS - 1)));

export const shade = (score) => Math.min(STEPS - 1, Math.max(0, Math.floor(score * STEPS)));

export const own = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export function drawScale(canvas) {
  const context = canvas.getContext("2d");
  SHADES.forEach((colour, step) => {
    context.fillStyle = colour;
    context.fillRect((step * canvas.width) / STEPS, 0, canvas.width / STEPS + 1, canvas.height);
  });
}
