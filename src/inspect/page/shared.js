// What all parts of the page share.

export const $ = (id) => document.getElementById(id);

export const words = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

// The run, its micrographs, and the one that is looked at.
export const page = { run: null, rows: [], counts: null, applied: null, current: null, info: null, labels: null, tool: "look" };

export const hasPicks = () => page.applied !== null;

let timer;
export const toast = (text, bad = false) => {
  $("toast").textContent = text;
  $("toast").className = bad ? "bad" : "";
  clearTimeout(timer);
  // What went wrong before there is a page stays.
  if (page.run || !bad) timer = setTimeout(() => $("toast").classList.add("hidden"), bad ? 8000 : 3500);
};

export const told = (error) => {
  if (error.name !== "AbortError") toast([error.message, error.hint].filter(Boolean).join(". "), true);
};

// A group of buttons of which one is pressed.
export function segments(id, key, onChange) {
  const press = (value) => {
    for (const button of $(id).children) button.setAttribute("aria-pressed", button.dataset[key] === value);
  };
  $(id).addEventListener("click", (event) => {
    const value = event.target.closest("button")?.dataset[key];
    if (value === undefined) return;
    press(value);
    onChange(value);
  });
  return press;
}

// Scrolls so that what lies from `top` on is seen.
export function reveal(scroller, top, height) {
  const { scrollTop, clientHeight } = scroller;
  if (top < scrollTop) scroller.scrollTop = top;
  if (top + height > scrollTop + clientHeight) scroller.scrollTop = top + height - clientHeight;
}
