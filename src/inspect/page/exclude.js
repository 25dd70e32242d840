// Micrographs are taken out and back in: at once on screen, and the lists are written behind it.

import { ask } from "./api.js";
import { page, toast, told, words } from "./shared.js";

export class Exclude {
  constructor({ onChange, onWritten }) {
    this.onChange = onChange;
    this.onWritten = onWritten;
    this.wanted = new Map();
    this.working = false;
  }

  // What is asked for while the lists are written goes together.
  async toggle(rows) {
    if (page.run.read_only || !rows.length) return;
    const out = !rows.every((row) => row.excluded);
    for (const row of rows) {
      row.excluded = out;
      this.wanted.set(row.id, out);
    }
    this.onChange();
    if (this.working) return;
    this.working = true;
    try {
      const again = [];
      while (this.wanted.size) {
        const wanted = [...this.wanted];
        this.wanted.clear();
        for (const excluded of [true, false]) {
          const ids = wanted.filter(([, own]) => own === excluded).map(([id]) => id);
          if (!ids.length) continue;
          const { data } = await ask("/api/excluded", { method: "PUT", body: { ids, excluded } });
          again.push(...data.to_pick);
        }
      }
      const all = page.rows.filter((row) => row.excluded).length;
      const to = again.length ? `; ${words(again.length, "micrograph has", "micrographs have")} to be picked again` : "";
      toast(`${words(all, "micrograph is", "micrographs are")} excluded: the lists are written${to}`);
    } catch (error) {
      this.wanted.clear();
      told(error);
    }
    this.working = false;
    await this.onWritten();
  }
}
