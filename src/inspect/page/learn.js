// Learning from labels: one button, what it comes to, the models, and what to label next.

import { ask } from "./api.js";

const words = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
const node = (name, properties = {}, ...children) => {
  const own = Object.assign(document.createElement(name), properties);
  own.append(...children);
  return own;
};
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const PROPOSED = 5;

export class Learn {
  // current: the id on screen, or null; onFirst: picks of that micrograph that are there before the others;
  // onDone: all picks are others; nameOf: what a micrograph is called; radius: where none is known.
  constructor({ panel, before, current, nameOf, radius, onFirst, onDone, onOpen, onTrouble }) {
    Object.assign(this, { current, nameOf, radius, onFirst, onDone, onOpen, onTrouble });
    this.go = node("button", { id: "learn", className: "main", textContent: "Learn from labels" });
    this.stop = node("button", { id: "learn-stop", className: "hidden", textContent: "Stop" });
    this.bar = node("div", { id: "learn-bar", className: "progress hidden" }, node("i"));
    this.said = node("p", { id: "learn-told", className: "soft" });
    this.said.setAttribute("aria-live", "polite");
    this.list = node("dl", { id: "models", className: "paths" });
    this.next = node("div", { id: "proposals" });
    const card = node(
      "section",
      { id: "learn-card", className: "card" },
      node("h2", { textContent: "Learn" }),
      node("div", { className: "row" }, this.go, this.stop),
      this.bar,
      this.said,
      this.list,
      node("h2", { textContent: "Next to label" }),
      this.next,
    );
    panel.insertBefore(card, before);
    this.go.addEventListener("click", () => this.start("/api/learning", { radius_px: this.radius() || null }));
    this.stop.addEventListener("click", () => ask("/api/learning", { method: "DELETE" }).catch(onTrouble));
  }

  // What is there when the page opens; a training may be under way.
  async begin({ readOnly, hasPicks }) {
    this.readOnly = readOnly;
    this.go.disabled = readOnly;
    await this.propose(hasPicks);
    await this.follow();
  }

  async start(path, body) {
    this.go.disabled = true;
    this.said.textContent = "Reading the labels…";
    try {
      await ask(path, { method: "POST", body: { ...body, first: this.current() } });
      await this.follow(true);
    } catch (error) {
      this.said.textContent = [error.message, error.hint].filter(Boolean).join(". ");
      this.go.disabled = this.readOnly;
    }
  }

  async follow(started = false) {
    if (this.following) return;
    this.following = true;
    let first = null;
    try {
      for (;;) {
        const { data } = await ask("/api/learning");
        const { phase, first: ready } = data.learning;
        const working = phase === "training" || phase === "picking";
        started ||= working;
        this.show(data.learning, working, started);
        this.models(data.models, working);
        if (working && ready && ready !== first) {
          first = ready;
          this.onFirst((await ask("/api/learning/first")).data);
        }
        if (!working) {
          if (started && phase !== "stopped") {
            await this.onDone();
            await this.propose(true);
          }
          return;
        }
        await pause(400);
      }
    } catch (error) {
      this.onTrouble(error);
    } finally {
      this.following = false;
    }
  }

  show(own, working, started) {
    this.go.disabled = working || this.readOnly;
    this.stop.classList.toggle("hidden", !working);
    this.bar.classList.toggle("hidden", !working);
    const { phase, training, done, total } = own;
    const share = phase === "picking" ? done / Math.max(1, total) : training ? training.epoch / training.epochs : 0;
    this.bar.firstElementChild.style.width = `${100 * share}%`;
    if (!started) return;
    const figures = training && `F1 ${training.f1.toFixed(3)} on labels held back`;
    const said = {
      training: training
        ? `Epoch ${training.epoch} of ${training.epochs} · loss ${training.loss.toFixed(3)} · ${figures} · ${Math.ceil(training.seconds_left)} s left`
        : `Training on ${words(own.labels.positives, "particle")}, ${words(own.labels.negatives, "place")} that are none…`,
      picking: [figures, `picked ${done} of ${words(total, "micrograph")}`].filter(Boolean).join(" · "),
      done: [figures, `${words(own.gained, "pick")} gained, ${own.lost.toLocaleString("en")} lost`].filter(Boolean).join(" · "),
      stopped: "Stopped.",
      failed: own.error,
    };
    this.said.textContent = said[phase] ?? "";
  }

  models(all, working) {
    const rows = all.flatMap((own) => {
      const labels = own.labels.positives + own.labels.negatives;
      const what = own.from === null ? "before" : `${words(labels, "label")}${own.f1 === null ? "" : `, F1 ${own.f1.toFixed(3)}`}`;
      const use = node("button", { textContent: own.current ? "in use" : "use", disabled: own.current || working || this.readOnly });
      use.addEventListener("click", () => this.start("/api/learning/back", { to: own.number }));
      return [node("dt", { textContent: `Model ${own.number}` }), node("dd", {}, node("span", { className: "soft", textContent: what }), use)];
    });
    this.list.replaceChildren(...rows);
  }

  async propose(hasPicks) {
    this.next.replaceChildren();
    if (!hasPicks) return;
    try {
      const { data } = await ask(`/api/proposals?most=${PROPOSED}`);
      const rows = data.micrographs.map((own) => {
        const row = node("button", { className: "proposal clip", textContent: this.nameOf(own.id) });
        row.append(node("span", { className: "soft", textContent: ` ${own.unsure} unsure` }));
        row.addEventListener("click", () => this.onOpen(own.id));
        return row;
      });
      this.next.append(...rows);
    } catch (error) {
      this.onTrouble(error);
    }
  }

  // The picks of a micrograph that are worth a look, the most unsure first.
  static async unsure(id) {
    return (await ask(`/api/micrographs/${id}/proposals`)).data.peaks;
  }

  // Picks gained and lost there since the model before.
  static async changes(id) {
    return (await ask(`/api/micrographs/${id}/changes`)).data;
  }
}
