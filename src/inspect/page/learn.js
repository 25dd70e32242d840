// Learning from labels: one button, what it comes to, the models, and what to label next.

import { ask } from "./api.js";
import { $, hasPicks, page, told, words } from "./shared.js";

const node = (name, properties = {}, ...children) => {
  const own = Object.assign(document.createElement(name), properties);
  own.append(...children);
  return own;
};
const nameOf = (id) => page.rows.find((row) => row.id === id)?.name.split("/").pop() ?? id;
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const PROPOSED = 5;

// Why a model was not taken.
function isWorse({ number, held_back: { before, after, sure } }) {
  const f1 = (own) => `F1 ${own.f1.toFixed(3)} (${own.interval.map((end) => end.toFixed(2)).join(" to ")})`;
  const doubt = sure ? "" : " The intervals overlap, so this may be chance.";
  return `Model ${number} is worse on the labels held back: ${f1(after)} against ${f1(before)} of the one before, which stays in use.${doubt}`;
}

export class Learn {
  // onFirst: picks of the micrograph on screen are there before the others; onDone: all picks are others;
  // onUnsure: a pick that is worth a look.
  // onChanges: picks of the micrograph on screen that were gained and lost.
  constructor({ onFirst, onDone, onOpen, onUnsure, onChanges }) {
    Object.assign(this, { onFirst, onDone, onOpen, onUnsure, onChanges });
    this.hereShown = node("p", { id: "learn-here", className: "soft one-only" });
    this.unsure = { id: null, peaks: [], at: -1 };
    this.go = node("button", { id: "learn", className: "main", textContent: "Learn from labels" });
    this.stop = node("button", { id: "learn-stop", className: "hidden", textContent: "Stop" });
    this.bar = node("div", { id: "learn-bar", className: "progress hidden" }, node("i"));
    this.said = node("p", { id: "learn-told", className: "soft" });
    this.take = node("button", { id: "learn-take", className: "hidden", textContent: "Use it anyway" });
    this.take.addEventListener("click", () => this.start("/api/learning/back", { to: this.worse }));
    this.said.setAttribute("aria-live", "polite");
    this.list = node("dl", { id: "models", className: "paths" });
    this.next = node("div", { id: "proposals" });
    this.nextHead = node("h2", { className: "hidden", textContent: "Next to label" });
    const card = node(
      "section",
      { id: "learn-card", className: "card" },
      node("h2", { textContent: "Learn" }),
      node("div", { className: "row" }, this.go, this.stop),
      this.bar,
      this.said,
      this.take,
      this.hereShown,
      this.list,
      this.nextHead,
      this.next,
    );
    $("panel").insertBefore(card, $("display"));
    const radius = () => (hasPicks() ? null : Number($("radius").value) || null);
    this.go.addEventListener("click", () => this.start("/api/learning", { radius_px: radius() }));
    this.stop.addEventListener("click", () => ask("/api/learning", { method: "DELETE" }).catch(told));
  }

  // What is there when the page opens; a training may be under way.
  async begin() {
    this.go.disabled = page.run.read_only;
    await this.propose();
    await this.follow();
  }

  // A micrograph was opened: what has changed there since the model before.
  async opened(id) {
    this.unsure = { id, peaks: [], at: -1 };
    this.hereShown.textContent = "";
    if (!this.learnt) return;
    const { data } = await ask(`/api/micrographs/${id}/changes`);
    if (page.current?.id !== id) return;
    this.hereShown.textContent = `Here: ${data.gained.length} gained (◇), ${data.lost.length} lost (▢).`;
    this.onChanges(data);
  }

  // The next pick here that is worth a look, the most unsure first.
  async look() {
    const { id } = this.unsure;
    if (!id) return;
    if (this.unsure.at + 1 >= this.unsure.peaks.length) {
      const { data } = await ask(`/api/micrographs/${id}/proposals`);
      this.unsure = { id, peaks: data.peaks, at: -1 };
    }
    const peak = this.unsure.peaks[++this.unsure.at];
    if (peak && page.current?.id === id) this.onUnsure(peak);
  }

  async start(path, body) {
    this.go.disabled = true;
    this.said.textContent = "Reading the labels…";
    try {
      await ask(path, { method: "POST", body: { ...body, first: page.current?.id ?? null } });
      await this.follow(true);
    } catch (error) {
      this.said.textContent = [error.message, error.hint].filter(Boolean).join(". ");
      this.go.disabled = page.run.read_only;
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
        this.show(data.learning, working, started, data.models);
        this.models(data.models, working);
        if (working && ready && ready !== first) {
          first = ready;
          this.onFirst((await ask("/api/learning/first")).data);
        }
        if (!working) {
          this.learnt ||= phase === "done";
          if (started) {
            await this.onDone();
            await this.propose();
          }
          return;
        }
        await pause(400);
      }
    } catch (error) {
      told(error);
    } finally {
      this.following = false;
    }
  }

  show(own, working, started, models) {
    this.worse = own.worse;
    this.take.classList.toggle("hidden", working || own.worse === null);
    this.go.disabled = working || page.run.read_only;
    this.stop.classList.toggle("hidden", !working);
    this.bar.classList.toggle("hidden", !working);
    const { phase, training, done, total } = own;
    const share = phase === "picking" ? done / Math.max(1, total) : training ? training.epoch / training.epochs : 0;
    this.bar.firstElementChild.style.width = `${100 * share}%`;
    if (!started) return;
    // Of the epochs the best one is kept; its F1 stands with the model.
    const said = {
      training: training
        ? `Epoch ${training.epoch} of ${training.epochs} · loss ${training.loss.toFixed(3)} · F1 ${training.f1.toFixed(3)} on labels held back · ${Math.ceil(training.seconds_left)} s left`
        : `Training on ${words(own.labels.positives, "particle")}, ${words(own.labels.negatives, "place")} without particles…`,
      picking: `Picked ${done} of ${words(total, "micrograph")}`,
      done: `${words(own.gained, "pick")} gained, ${own.lost.toLocaleString("en")} lost`,
      stopped: "Stopped.",
      failed: own.error,
    };
    this.said.textContent = own.worse === null ? said[phase] ?? "" : isWorse(models.find((model) => model.number === own.worse));
  }

  models(all, working) {
    const rows = all.flatMap((own) => {
      const labels = own.labels.positives + own.labels.negatives;
      const what = own.from === null ? "before" : `${words(labels, "label")}${own.f1 === null ? "" : `, F1 ${own.f1.toFixed(3)}`}`;
      const use = node("button", { textContent: own.current ? "in use" : "use", disabled: own.current || working || page.run.read_only });
      use.addEventListener("click", () => this.start("/api/learning/back", { to: own.number }));
      return [node("dt", { textContent: `Model ${own.number}` }), node("dd", {}, node("span", { className: "soft", textContent: what }), use)];
    });
    this.list.replaceChildren(...rows);
  }

  async propose() {
    if (!hasPicks()) return;
    try {
      const { data } = await ask(`/api/proposals?most=${PROPOSED}`);
      const rows = data.micrographs.map((own) => {
        const row = node("button", { className: "proposal clip", textContent: nameOf(own.id) });
        row.append(node("span", { className: "soft", textContent: ` ${own.unsure} unsure` }));
        row.addEventListener("click", () => this.onOpen(own.id));
        return row;
      });
      this.next.replaceChildren(...rows);
      this.nextHead.classList.toggle("hidden", !rows.length);
    } catch (error) {
      told(error);
    }
  }
}
