// The page: what is shown, and what happens when something is moved, clicked or typed.

import { ask, picture } from "./api.js";
import { Begin } from "./begin.js";
import { drawScale } from "./colours.js";
import { Cut } from "./cut.js";
import { Display } from "./display.js";
import { Exclude } from "./exclude.js";
import { Grid } from "./grid.js";
import { Labels } from "./labels.js";
import { Learn } from "./learn.js";
import { Particles } from "./particles.js";
import { $, hasPicks, page, segments, toast, told, words } from "./shared.js";
import { Viewer } from "./viewer.js";

// The token is in a cookie now and need not stay in the address.
if (location.search) history.replaceState(null, "", location.pathname + location.hash);

// ---- appearance

const theme = (name) => {
  document.documentElement.dataset.theme = name;
  localStorage.setItem("picker-theme", name);
  cut?.threshold.draw();
  viewer?.draw();
  particles?.draw();
};

// ---- parts

const viewer = new Viewer({
  onClick: (x, y, no) => clicked(x, y, no),
  onHover: (what) => hovered(what),
  onZoom: (zoom) => {
    $("zoom").textContent = `${Math.round(zoom * 100)} %`;
    display?.filter();
  },
  onMeasure: (radius) => begin.use(radius),
  onAreas: (areas) => page.labels && labels.set(page.labels, page.labels.set.positives, page.labels.set.negatives, areas),
  onTrouble: (error) => note(error.message),
});
const cut = new Cut({
  onMove: () => {
    viewer.threshold = cut.here();
    viewer.draw();
    particles.moved();
  },
  onApplied: () => loadRun(),
});
cut.onCounted = () => grid.refresh();
const grid = new Grid({
  onOpen: (id) => open(id),
  onExclude: (rows) => excluding.toggle(rows),
  picksOf: (row) => (page.counts && !row.excluded ? page.counts[row.place] : row.picks),
});
const labels = new Labels({ onChange: (own) => labelled(own), onTrouble: told });
const particles = new Particles({ threshold: () => cut.common(), labels });
const begin = new Begin({
  onRadius: (radius) => {
    viewer.radius = radius;
    viewer.draw();
  },
  onPicked: async () => {
    await loadRun();
    route();
    learn.propose();
  },
});

const note = (text) => {
  $("stage-note").textContent = text ?? "";
  $("stage-note").classList.toggle("hidden", !text);
};
const display = new Display({ viewer, note });
const excluding = new Exclude({
  onChange: () => {
    grid.refresh();
    showExcluded();
  },
  onWritten: async () => {
    await loadRun().catch(told);
    cut.asked = null;
    cut.moved();
    showExcluded();
  },
});

const learn = new Learn({
  onFirst: ({ id, peaks, threshold }) => {
    if (page.current?.id !== id || !page.info) return;
    page.info = { ...page.info, peaks };
    viewer.peaks = peaks;
    viewer.threshold = threshold;
    viewer.draw();
  },
  onDone: async () => {
    await loadRun();
    route();
  },
  onOpen: (id) => open(id),
  onChanges: (changes) => {
    viewer.changes = changes;
    viewer.draw();
  },
  onUnsure: (peak) => {
    viewer.chosen = peak;
    viewer.look(peak[0], peak[1], viewer.zoom);
    hovered({ x: peak[0], y: peak[1], peak });
  },
});

theme(localStorage.getItem("picker-theme") ?? "dark");
drawScale($("scale"));

// ---- one micrograph

async function open(id, at) {
  const row = page.rows.find((own) => own.id === id);
  if (!row) {
    location.hash = "grid";
    return;
  }
  if (!location.hash.startsWith(`#${id}`)) {
    location.hash = id;
    return;
  }
  page.current = row;
  page.info = null;
  page.labels = null;
  show("one");
  grid.choose(id);
  $("name").textContent = row.name.split("/").pop();
  $("name").title = row.name;
  $("place").textContent = `${row.place + 1} of ${page.rows.length}`;
  note(row.failed);
  showExcluded();
  display.leave();
  viewer.begin(id);
  try {
    const [{ data }] = await Promise.all([ask(`/api/micrographs/${id}`), labels.open(id)]);
    if (page.current !== row) return;
    page.info = data;
    // A ring to begin with; the field stays empty until someone measures or enters a radius.
    const first = Math.round(Math.min(data.width, data.height) / 40);
    viewer.fill(data, data.radius_px ?? (Number($("radius").value) || first));
    useBrush(viewer.brushOf ?? viewer.radius * 1.5);
    cut.look(data.peaks.map((peak) => peak[2]));
    labelled(labels.all.get(id));
    if (at) lookAt(...at);
    display.showMap();
    learn.opened(id).catch(told);
    // The next one is there before it is asked for.
    const next = neighbour(1);
    if (next) new Image().src = picture(next.id, 1024);
  } catch (error) {
    if (page.current === row) note([error.message, error.hint].filter(Boolean).join(". "));
  }
}

// A pick that was opened from among all particles.
function lookAt(x, y) {
  const near = (peak) => Math.hypot(peak[0] - x, peak[1] - y);
  viewer.chosen = page.info.peaks.reduce((best, peak) => (near(peak) < near(best) ? peak : best), page.info.peaks[0]) ?? null;
  viewer.look(x, y, Math.max(viewer.zoom, Math.min(1, 60 / viewer.radius)));
}

function neighbour(by) {
  const among = grid.shown.some((row) => row === page.current) ? grid.shown : page.rows;
  return among[among.indexOf(page.current) + by];
}

function go(by) {
  const row = neighbour(by);
  if (row) open(row.id);
}

function toGrid() {
  location.hash = "grid";
}

function show(view) {
  document.body.dataset.view = view;
  for (const link of document.querySelectorAll("nav [data-to]")) {
    const here = link.dataset.to === view || (view === "one" && link.dataset.to === "grid");
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (view !== "gallery") particles.hide();
}

function leave() {
  page.current = null;
  page.info = null;
  page.labels = null;
  display.leave();
  cut.look(null);
}

function showGrid() {
  show("grid");
  leave();
  grid.reveal();
  grid.refresh();
  grid.scroller.focus({ preventScroll: true });
}

function showGallery() {
  show("gallery");
  leave();
  particles.show().catch(told);
}

function route() {
  const [id, at] = location.hash.slice(1).split("/");
  if (!id || id === "grid" || (id === "gallery" && !hasPicks())) showGrid();
  else if (id === "gallery") showGallery();
  else open(id, at?.split(",").map(Number));
}

function showExcluded() {
  $("exclude").setAttribute("aria-pressed", page.current?.excluded ?? false);
  $("exclude").textContent = page.current?.excluded ? "Excluded" : "Exclude";
}

$("exclude").addEventListener("click", () => excluding.toggle([page.current]));

function hovered(what) {
  const at = what && `${Math.round(what.x)}, ${Math.round(what.y)}`;
  $("readout").textContent = !what ? "" : what.peak ? `score ${what.peak[2].toFixed(3)} · ${at}` : at;
}

// ---- labels

function clicked(x, y, no) {
  if (page.tool === "label" && page.labels) {
    labels.click(page.labels, x, y, viewer.circles ? viewer.visible() : [], viewer.reach(), no);
    return;
  }
  const [best] = viewer.visible()
    .map((peak) => [Math.hypot(peak[0] - x, peak[1] - y), peak])
    .filter(([apart]) => apart < viewer.reach())
    .sort((a, b) => a[0] - b[0]);
  viewer.chosen = best?.[1] ?? null;
  hovered({ x, y, peak: viewer.chosen });
  viewer.draw();
}

function labelled(own) {
  const row = page.rows.find((other) => other.id === own.id);
  const { state, positives, negatives } = own.set;
  const before = row?.labels?.state ?? "unseen";
  if (row) row.labels = { state, positives: positives.length, negatives: negatives.length };
  if (state !== before) learn.propose();
  particles.labelled(own);
  if (page.current?.id !== own.id) return;
  page.labels = own;
  viewer.labels = own.set;
  viewer.draw();
  $("count-yes").textContent = positives.length;
  $("count-no").textContent = negatives.length;
  $("undo").disabled = !own.past.length || own.conflict;
  $("redo").disabled = !own.future.length || own.conflict;
  $("take").disabled = page.run.read_only || !page.info?.peaks.length;
  $("conflict").classList.toggle("hidden", !own.conflict);
  for (const button of $("looked").children) button.setAttribute("aria-pressed", button.dataset.state === state);
  const isNew = state === "unseen" && !own.past.length;
  $("saved").textContent = own.conflict || own.trouble ? "not saved" : own.saving || own.unsaved ? "saving…" : isNew ? "" : "saved";
}

const HELP = {
  look: "Drag moves, the wheel zooms, a click on a pick shows its score.",
  label: "Click: a particle. Click again on a pick: not one. Once more: no label. Shift or right click: not a particle.",
  brush: "Drag over ice, carbon or an edge: no particles there. Shift or the right button erases.",
  measure: "Drag from the middle of a particle to its edge: the ring is its size.",
};

const pressTool = segments("tool", "tool", (tool) => useTool(tool));

function useTool(tool) {
  if (page.run.read_only) tool = "look";
  page.tool = tool;
  viewer.tool = tool;
  viewer.ring = null;
  viewer.draw();
  pressTool(tool);
  $("stage").classList.toggle("labelling", tool !== "look");
  $("brush-line").classList.toggle("hidden", tool !== "brush");
  $("label-help").textContent = page.run.read_only ? "This server is read-only: nothing can be changed." : HELP[tool];
}

function useBrush(radius) {
  viewer.brush = Math.round(radius);
  $("brush-size").value = viewer.brush;
  $("brush-value").textContent = `${viewer.brush} px`;
  viewer.draw();
}

$("brush-size").addEventListener("input", () => {
  viewer.brushOf = Number($("brush-size").value);
  useBrush(viewer.brushOf);
});

// With a key: a particle, or with the brush an area without particles.
function inTheMiddle() {
  if (!page.labels || page.run.read_only) return;
  const [x, y] = viewer.middle().map(Math.round);
  const { positives, negatives, areas } = page.labels.set;
  if (page.tool !== "brush") labels.click(page.labels, x, y, [], 1, false);
  else labels.set(page.labels, positives, negatives, [...areas, { radius: viewer.brush, points: [[x, y]] }]);
}

const chosenPick = (no) => {
  if (viewer.chosen && page.labels && !page.run.read_only) {
    labels.click(page.labels, viewer.chosen[0], viewer.chosen[1], [viewer.chosen], 1.5, no);
  }
};

$("looked").addEventListener("click", (event) => {
  const state = event.target.closest("button")?.dataset.state;
  if (state) labels.look(page.labels, state);
});
$("undo").addEventListener("click", () => labels.undo(page.labels));
$("redo").addEventListener("click", () => labels.redo(page.labels));
$("take").addEventListener("click", () => {
  labels.take(page.labels, page.info.peaks.filter((peak) => peak[2] >= cut.here()));
});
$("theirs").addEventListener("click", () => labels.theirs(page.labels).catch(told));
$("mine").addEventListener("click", () => labels.mine(page.labels).catch(told));

// ---- buttons

$("fit").addEventListener("click", () => viewer.fit());
$("prev").addEventListener("click", () => go(-1));
$("next").addEventListener("click", () => go(1));
$("to-grid").addEventListener("click", toGrid);
$("theme").addEventListener("click", () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
$("help").addEventListener("click", () => $("keys").showModal());
for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText($(button.dataset.of).textContent);
      toast("Copied");
    } catch {
      toast("The browser does not allow copying: select the text by hand", true);
    }
  });
}

// ---- keys

const EVERYWHERE = {
  g: toGrid,
  v: () => (location.hash = "gallery"),
};
const KEYS = {
  n: () => go(1),
  p: () => go(-1),
  c: () => $("circles").click(),
  b: () => $("below").click(),
  m: () => $("map").click(),
  l: () => useTool(page.tool === "label" ? "look" : "label"),
  w: () => useTool(page.tool === "brush" ? "look" : "brush"),
  j: () => viewer.step(1),
  k: () => viewer.step(-1),
  u: () => learn.look().catch(told),
  0: () => viewer.fit(),
  "+": () => viewer.zoomAt(1.25),
  "=": () => viewer.zoomAt(1.25),
  "-": () => viewer.zoomAt(0.8),
  ArrowLeft: () => viewer.pan(60, 0),
  ArrowRight: () => viewer.pan(-60, 0),
  ArrowUp: () => viewer.pan(0, 60),
  ArrowDown: () => viewer.pan(0, -60),
  Enter: () => chosenPick(false),
  x: () => chosenPick(true),
  e: () => excluding.toggle([page.current]),
  a: () => inTheMiddle(),
  1: () => labels.look(page.labels, "unseen"),
  2: () => labels.look(page.labels, "partial"),
  3: () => labels.look(page.labels, "complete"),
};

addEventListener("keydown", (event) => {
  const typing = event.target.matches("input[type=search], input[type=number], select, dialog *");
  if (typing || !page.run) return;
  const undoing = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z";
  if (undoing && page.current && !page.run.read_only) {
    if (event.shiftKey) labels.redo(page.labels);
    else labels.undo(page.labels);
    event.preventDefault();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "?") return $("keys").showModal();
  if (hasPicks() && (event.key === "[" || event.key === "]")) {
    return cut.move(cut.value + (event.key === "[" ? -0.01 : 0.01));
  }
  const isRange = event.target.matches("input[type=range]") && event.key.startsWith("Arrow");
  const isButton = event.target.matches("button, a") && event.key === "Enter";
  if (isRange || isButton) return;
  if (page.run.read_only && "123".includes(event.key)) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const act = EVERYWHERE[key] ?? (document.body.dataset.view === "one" ? KEYS[key] : null);
  if (act) {
    act();
    event.preventDefault();
  }
});

// ---- the run

async function loadRows() {
  const { data } = await ask("/api/micrographs");
  data.micrographs.forEach((row, place) => (row.place = place));
  page.rows = data.micrographs;
  if (page.current) page.current = page.rows.find((row) => row.id === page.current.id) ?? null;
  grid.show(page.rows);
  return data.scores_ready;
}

async function loadRun() {
  const { data } = await ask("/api/run");
  page.run = data;
  page.applied = data.threshold;
  page.counts = null;
  cut.asked = null;
  // Mean scores are known once all peaks have been read.
  await loadRows();
  document.title = `${data.run} – picker`;
  $("run-name").textContent = data.run;
  $("only-shown").classList.toggle("hidden", !data.read_only);
  $("picks-folder").textContent = data.picks_folder;
  $("relion").textContent = `${data.picks_folder}/autopick.star`;
  $("cryosparc").textContent = `${data.picks_folder}/picked_particles.star`;
  const someOut = page.rows.some((row) => row.excluded);
  for (const own of document.querySelectorAll(".if-excluded")) own.classList.toggle("hidden", !someOut);
  $("good").textContent = `${data.run}/good_micrographs.star`;
  $("cut-line").textContent = `picker threshold --threshold ${data.threshold} --out ${data.run}`;
  $("train-line").textContent = `picker train --coordinates ${data.labels_folder}`;
  $("cut").classList.toggle("hidden", !hasPicks());
  $("hand-over").classList.toggle("hidden", !hasPicks());
  $("pick").classList.toggle("hidden", hasPicks());
  $("pick-all").classList.toggle("hidden", !data.can_pick);
  for (const own of document.querySelectorAll("nav [data-to=gallery]")) own.classList.toggle("hidden", !hasPicks());
  document.querySelector("[data-tool=measure]").classList.toggle("hidden", hasPicks());
  if (hasPicks() && page.tool === "measure") useTool("look");
  cut.threshold.set(data.floor ?? 0, cut.scope === "one" ? cut.value : (data.threshold ?? 0.5), data.histogram.counts);
  $("totals").textContent = words(page.rows.length, "micrograph");
  $("axis-what").textContent = "all stored peaks by score";
  for (const button of [...$("looked").children, $("exclude")]) button.disabled = data.read_only;
}

// A server that only shows may look at a run that another process picks in.
async function follow() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 4000));
    try {
      const { data } = await ask("/api/run");
      if (data.picks_version === page.run.picks_version) continue;
      await loadRun();
      toast("The picks have changed");
      route();
    } catch (error) {
      told(error);
    }
  }
}

async function start() {
  try {
    await loadRows();
    await loadRun();
    begin.remember();
    useTool("look");
    display.filter();
    addEventListener("hashchange", route);
    route();
    learn.begin().catch(told);
    if (page.run.read_only) follow();
    else if (!hasPicks()) await begin.follow();
  } catch (error) {
    told(error);
  }
}

start();
