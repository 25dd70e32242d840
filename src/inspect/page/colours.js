// Colours of scores: blue, turquoise, yellow; told apart with any colour vision, and on grey.

const STOPS = [[59, 141, 255], [38, 208, 206], [255, 224, 74]];
const STEPS = 24;

function rgb(at) {
  const along = Math.min(Math.max(at, 0), 1) * (STOPS.length - 1);
  const from = Math.min(Math.floor(along), STOPS.length - 2);
  return STOPS[from].map((own, i) => Math.round(own + (STOPS[from + 1][i] - own) * (along - from)));
}

export const SHADES = Array.from({ length: STEPS }, (_, step) => `rgb(${rgb(step / (STEPS - 1)).join(" ")})`);

export const shade = (score) => Math.min(STEPS - 1, Math.max(0, Math.floor(score * STEPS)));

export const own = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export function drawScale(canvas) {
  const context = canvas.getContext("2d");
  SHADES.forEach((colour, step) => {
    context.fillStyle = colour;
    context.fillRect((step * canvas.width) / STEPS, 0, canvas.width / STEPS + 1, canvas.height);
  });
}

// A grey picture of probabilities as a layer: the colours of scores, and clear where it is unlikely.
export async function mapOf(blob) {
  const grey = await createImageBitmap(blob);
  const layer = new OffscreenCanvas(grey.width, grey.height);
  const context = layer.getContext("2d");
  context.drawImage(grey, 0, 0);
  const image = context.getImageData(0, 0, grey.width, grey.height);
  const { data } = image;
  const colours = Array.from({ length: 256 }, (_, value) => [...rgb(value / 255), Math.round(255 * Math.min(1, (value / 255) * 1.6))]);
  for (let at = 0; at < data.length; at += 4) {
    const [r, g, b, a] = colours[data[at]];
    data[at] = r;
    data[at + 1] = g;
    data[at + 2] = b;
    data[at + 3] = a;
  }
  context.putImageData(image, 0, 0);
  return layer;
}
