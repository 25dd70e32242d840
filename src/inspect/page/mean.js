// The mean of cut-outs with its radial profile, which shows whether picks are centred.

import { ask } from "./api.js";
import { own } from "./colours.js";

export function drawMean(canvas, mean) {
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (!mean) return;
  const image = new ImageData(mean.side, mean.side);
  mean.pixels.forEach((value, at) => image.data.set([value, value, value, 255], at * 4));
  const small = new OffscreenCanvas(mean.side, mean.side);
  small.getContext("2d").putImageData(image, 0, 0);
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
  const scale = canvas.width / mean.side;
  const ring = (x, y, radius, colour, dash) => {
    context.beginPath();
    context.arc(x, y, radius, 0, 7);
    context.setLineDash(dash);
    context.lineWidth = 3.5;
    context.strokeStyle = "rgba(0,0,0,.5)";
    context.stroke();
    context.lineWidth = 1.5;
    context.strokeStyle = colour;
    context.stroke();
  };
  const middle = canvas.width / 2;
  ring(middle, middle, (mean.radius_px / mean.px) * scale, "#8fd0ff", [6, 4]);
  if (mean.offset_px) {
    const [x, y] = mean.offset_px.map((offset) => middle + (offset / mean.px) * scale);
    ring(x, y, 4, "#ffe04a", []);
  }
}

// Grey values from the middle outwards; the line stands at the particle's radius.
export function drawProfile(canvas, mean) {
  const { clientWidth: width, clientHeight: height } = canvas;
  if (!width) return;
  canvas.width = width * devicePixelRatio;
  canvas.height = height * devicePixelRatio;
  const context = canvas.getContext("2d");
  context.scale(devicePixelRatio, devicePixelRatio);
  if (!mean) return;
  const least = Math.min(...mean.profile);
  const range = Math.max(...mean.profile) - least || 1;
  const x = (at) => 1 + (at / (mean.profile.length - 1)) * (width - 2);
  const edge = x(mean.radius_px / mean.px);
  context.setLineDash([4, 3]);
  context.strokeStyle = own("--soft");
  context.beginPath();
  context.moveTo(edge, 0);
  context.lineTo(edge, height);
  context.stroke();
  context.setLineDash([]);
  context.strokeStyle = own("--accent");
  context.lineWidth = 2;
  context.beginPath();
  mean.profile.forEach((value, at) => context.lineTo(x(at), height - 3 - ((value - least) / range) * (height - 6)));
  context.stroke();
}

export function centred(mean) {
  if (!mean) return "";
  if (!mean.offset_px) return "No clear particle in this mean.";
  const [x, y] = mean.offset_px;
  const length = Math.hypot(x, y);
  const share = length / mean.radius_px;
  const words = share < 0.08 ? "Centred" : share < 0.2 ? "A little off centre" : "Off centre";
  const sign = (value) => (Math.abs(value) < 0.05 ? "0.0" : `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(1)}`);
  return `${words}: the centre of the mean is ${length.toFixed(1)} px off (x ${sign(x)}, y ${sign(y)})`;
}

// The mean of all picks, which grows while it is looked at.
export class RunningMean {
  constructor({ onTrouble }) {
    this.onTrouble = onTrouble;
    this.shown = false;
  }

  async show() {
    if (this.shown) return;
    this.shown = true;
    let wait = 400;
    while (this.shown) {
      try {
        const { data } = await ask("/api/particles/mean");
        this.mean = data.mean;
        this.draw();
        const unread = data.unread ? `, ${data.unread} cannot be read` : "";
        const much = data.done < data.total ? `${data.done} of ${data.total} micrographs${unread}` : `all micrographs${unread}`;
        document.getElementById("mean-of").textContent = data.mean ? `${data.mean.count.toLocaleString("en")} picks, ${much}` : much;
        document.getElementById("mean-bar").classList.toggle("hidden", data.done >= data.total);
        document.getElementById("mean-bar").firstElementChild.style.width = `${(100 * data.done) / Math.max(1, data.total)}%`;
        wait = data.done < data.total ? Math.min(2000, wait * 1.2) : 4000;
      } catch (error) {
        this.onTrouble(error);
        wait = 8000;
      }
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }

  hide() {
    this.shown = false;
  }

  draw() {
    drawMean(document.getElementById("mean-all"), this.mean);
    drawProfile(document.getElementById("mean-profile"), this.mean);
    document.getElementById("mean-centre").textContent = centred(this.mean);
  }
}
