// Labels by hand: changed at once on screen, stored behind it, one request a micrograph at a time.
// Each request names the version that it was made from, so that another tab is never overwritten.

import { ask } from "./api.js";

const EMPTY = { state: "unseen", positives: [], negatives: [], areas: [] };
const MOST_STEPS = 500;

const nearest = (points, x, y, within) => {
  let best = { at: -1, apart: within };
  points.forEach((point, at) => {
    const apart = Math.hypot(point[0] - x, point[1] - y);
    if (apart < best.apart) best = { at, apart };
  });
  return best;
};

const round = ([x, y]) => [Math.round(x), Math.round(y)];

export class Labels {
  constructor({ onChange, onTrouble }) {
    this.all = new Map();
    this.onChange = onChange;
    this.onTrouble = onTrouble;
    addEventListener("beforeunload", (event) => {
      if ([...this.all.values()].some((own) => own.saving || own.unsaved)) event.preventDefault();
    });
  }

  async open(id) {
    let own = this.all.get(id);
    if (!own) {
      own = { id, set: EMPTY, etag: null, past: [], future: [], saving: false, unsaved: false, conflict: false };
      this.all.set(id, own);
    }
    // What another tab or program has done since is shown, unless there is something of our own.
    if (!own.saving && !own.unsaved) {
      const before = own.etag;
      await this.load(own);
      if (before && before !== own.etag) [own.past, own.future] = [[], []];
    }
    return own;
  }

  async load(own) {
    const { data, etag } = await ask(`/api/micrographs/${own.id}/labels`);
    const { state, positives, negatives, areas = [] } = data;
    own.set = { state, positives, negatives, areas };
    own.etag = etag;
    own.conflict = false;
    this.onChange(own);
  }

  change(own, set) {
    if (!own?.etag || own.conflict) return;
    own.past.push(own.set);
    if (own.past.length > MOST_STEPS) own.past.shift();
    own.future = [];
    this.put(own, set);
  }

  put(own, set) {
    own.set = set;
    own.unsaved = true;
    own.trouble = null;
    this.onChange(own);
    this.save(own);
  }

  undo(own) {
    if (!own?.past.length || own.conflict) return;
    own.future.push(own.set);
    this.put(own, own.past.pop());
  }

  redo(own) {
    if (!own?.future.length || own.conflict) return;
    own.past.push(own.set);
    this.put(own, own.future.pop());
  }

  async save(own) {
    if (own.saving) return;
    own.saving = true;
    while (own.unsaved && !own.conflict) {
      own.unsaved = false;
      this.onChange(own);
      try {
        const { etag } = await ask(`/api/micrographs/${own.id}/labels`, {
          method: "PUT",
          headers: { "If-Match": own.etag },
          body: own.set,
        });
        own.etag = etag;
      } catch (error) {
        own.unsaved = true;
        if (error.status === 412) {
          own.conflict = true;
        } else {
          own.trouble = error;
          this.onTrouble(error);
          // A server that has stopped may come back; nothing is lost meanwhile.
          if (error.status === 0) setTimeout(() => this.save(own), 3000);
          break;
        }
      }
    }
    own.saving = false;
    this.onChange(own);
  }

  async theirs(own) {
    own.unsaved = false;
    [own.past, own.future] = [[], []];
    await this.load(own);
  }

  async mine(own) {
    const { etag } = await ask(`/api/micrographs/${own.id}/labels`);
    own.etag = etag;
    own.conflict = false;
    this.save(own);
  }

  // A click: on a pick it becomes a particle, then none, then free again; elsewhere a particle is
  // added. With `no`, it is said to be none at once.
  click(own, x, y, picks, reach, no) {
    const { positives, negatives } = own.set;
    const isPick = (point) => picks.some((pick) => Math.hypot(pick[0] - point[0], pick[1] - point[1]) <= 1);
    const [yes, not, pick] = [positives, negatives, picks].map((points) => nearest(points, x, y, reach));
    const without = (points, at) => points.filter((_, i) => i !== at);
    // A pick and its label lie on the same place: the label is meant.
    if (yes.at >= 0 && yes.apart <= not.apart && yes.apart <= pick.apart + 1.5) {
      const point = positives[yes.at];
      const rejected = no || isPick(point) ? [...negatives, point] : negatives;
      return this.set(own, without(positives, yes.at), rejected);
    }
    if (not.at >= 0 && not.apart <= pick.apart + 1.5) return this.set(own, positives, without(negatives, not.at));
    const place = round(pick.at >= 0 ? picks[pick.at] : [x, y]);
    return no ? this.set(own, positives, [...negatives, place]) : this.set(own, [...positives, place], negatives);
  }

  set(own, positives, negatives, areas = own.set.areas) {
    const some = positives.length + negatives.length + areas.length > 0;
    const state = own.set.state === "unseen" && some ? "partial" : own.set.state;
    this.change(own, { state, positives, negatives, areas });
  }

  // Places become particles, none, or free again, in one step.
  mark(own, places, label) {
    const these = places.map(round);
    const keys = new Set(these.map((point) => point.join()));
    const without = (points) => points.filter((point) => !keys.has(round(point).join()));
    const [positives, negatives] = [without(own.set.positives), without(own.set.negatives)];
    this.set(own, label > 0 ? [...positives, ...these] : positives, label < 0 ? [...negatives, ...these] : negatives);
  }

  // All picks that have no label yet become particles, in one step.
  take(own, picks) {
    const { positives, negatives } = own.set;
    const known = new Set([...positives, ...negatives].map((point) => round(point).join()));
    const free = picks.map(round).filter((point) => !known.has(point.join()));
    if (free.length) this.set(own, [...positives, ...free], negatives);
  }

  look(own, state) {
    if (own?.set.state !== state) this.change(own, { ...own.set, state });
  }
}
