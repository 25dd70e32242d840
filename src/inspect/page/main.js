// The page: what is shown, and what happens when something is moved, clicked or typed.

import { ask, picture } from "./api.js";
import { drawScale } from "./colours.js";
import { Grid } from "./grid.js";
import { Labels } from "./labels.js";
import { Threshold } from "./threshold.js";
import { Viewer } from "./viewer.js";

const $ = (id) => document.getElementById(id);
const words = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

// The token is in a cookie now and need not stay in the address.
if (location.search) history.replaceState(null, "", location.pathname + location.hash);

const page = { run: null, rows: [], counts: null, applied: null, current: null, info: null, labels: null, tool: "look" };

// ---- appearance

const theme = (name) => {
  document.documentElement.dataset.theme = name;
  localStorage.setItem("picker-theme", name);
  threshold?.draw();
  viewer?.draw();
};
const toast = (text, bad = false) => {
  $("toast").textContent = text;
  $("toast").className = bad ? "bad" : "";
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => $("toast").classList.add("hidden"), bad ? 8000 : 3500);
};
const told = (error) => toast([error.message, error.hint].filter(Boolean).join(". "), true);

// ---- parts

const threshold = new Threshold({ onMove: () => moved() });
const grid = new Grid({ onOpen: (id) => open(id), onExclude: (row) => exclude(row), picksOf: (row) => (page.counts ? page.counts[row.place] : row.picks) });
const viewer = new Viewer({
  onClick: (x, y, no) => clicked(x, y, no),
  onHover: (what) => hovered(what),
  onZoom: (zoom) => ($("zoom").textContent = `${Math.round(zoom * 100)} %`),
  onMeasure: (radius) => useRadius(radius),
  onTrouble: (error) => note(error.message),
});
const labels = new Labels({ onChange: (own) => labelled(own), onTrouble: told });

theme(localStorage.getItem("picker-theme") ?? "dark");
drawScale($("scale"));

const note = (text) => {
  $("stage-note").textContent = text ?? "";
  $("stage-note").classList.toggle("hidden", !text);
};

// ---- threshold

const hasPicks = () => page.applied !== null;
let asking = false;
let asked = null;

async function countAll() {
  // One request at a time, and always the last value.
  if (asking || !hasPicks()) return;
  asking = true;
  try {
    while (asked !== threshold.value) {
      asked = threshold.value;
      const { data } = await ask(`/api/counts?threshold=${asked}`);
      page.counts = data.counts;
      showCounts(data.total);
    }
  } catch (error) {
    told(error);
  } finally {
    asking = false;
  }
}

function showCounts(total) {
  const before = page.rows.reduce((sum, row) => sum + (row.picks ?? 0), 0);
  $("count-all").textContent = total.toLocaleString("en");
  const change = total - before;
  $("count-change").textContent = change > 0 ? `+${change.toLocaleString("en")}` : change.toLocaleString("en").replace("-", "−");
  $("totals").textContent = `${words(page.rows.length, "micrograph")} · ${words(total, "pick")}`;
  grid.refresh();
}

function moved() {
  $("cut-value").textContent = threshold.value.toFixed(3);
  viewer.threshold = threshold.value;
  const here = page.info?.peaks.filter((peak) => peak[2] >= threshold.value).length;
  $("count-here").textContent = here?.toLocaleString("en") ?? "–";
  const same = Math.abs(threshold.value - (page.applied ?? 0)) < 1e-6;
  $("apply").disabled = same || page.run.read_only || !hasPicks();
  $("reset").disabled = same || !hasPicks();
  viewer.draw();
  countAll();
}

$("reset").addEventListener("click", () => {
  threshold.move(page.applied);
  moved();
});

$("apply").addEventListener("click", async () => {
  $("apply").disabled = true;
  $("apply").textContent = "Applying…";
  try {
    const { data } = await ask("/api/threshold", { method: "POST", body: { threshold: threshold.value } });
    await loadRows();
    page.applied = threshold.value;
    toast(`${words(data.picks, "pick")} on ${words(data.micrographs, "micrograph")}: all lists are written`);
  } catch (error) {
    told(error);
  }
  $("apply").textContent = "Apply";
  asked = null;
  moved();
});

// ---- one micrograph

async function open(id) {
  if (location.hash !== `#${id}`) {
    location.hash = id;
    return;
  }
  const row = page.rows.find((own) => own.id === id);
  if (!row) {
    location.hash = "grid";
    return;
  }
  page.current = row;
  page.info = null;
  page.labels = null;
  document.body.dataset.view = "one";
  grid.choose(id);
  $("name").textContent = row.name.split("/").pop();
  $("name").title = row.name;
  $("place").textContent = `${row.place + 1} of ${page.rows.length}`;
  note(row.failed);
  showExcluded();
  viewer.begin(id);
  try {
    const [{ data }] = await Promise.all([ask(`/api/micrographs/${id}`), labels.open(id)]);
    if (page.current !== row) return;
    page.info = data;
    const kept = Number(localStorage.getItem("picker-radius")) || Math.round(Math.min(data.width, data.height) / 40);
    if (!$("radius").value) $("radius").value = kept;
    viewer.fill(data, data.radius_px ?? Number($("radius").value));
    threshold.look(data.peaks.map((peak) => peak[2]));
    moved();
    labelled(labels.all.get(id));
    // The next one is there before it is asked for.
    const next = neighbour(1);
    if (next) new Image().src = picture(next.id, 1024);
  } catch (error) {
    if (page.current === row) note([error.message, error.hint].filter(Boolean).join(". "));
  }
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

function showGrid() {
  document.body.dataset.view = "grid";
  page.current = null;
  page.info = null;
  page.labels = null;
  threshold.look(null);
  moved();
  grid.reveal();
  grid.refresh();
  grid.scroller.focus({ preventScroll: true });
}

function route() {
  const id = location.hash.slice(1);
  if (!id || id === "grid") showGrid();
  else open(id);
}

async function exclude(row) {
  if (page.run.read_only) return;
  const excluded = !row.excluded;
  try {
    await ask(`/api/micrographs/${row.id}/excluded`, { method: "PUT", body: { excluded } });
    row.excluded = excluded;
    grid.refresh();
    showExcluded();
    toast(`${row.name.split("/").pop()} is ${excluded ? "excluded" : "back in"}: good_micrographs.star is written`);
  } catch (error) {
    told(error);
  }
}

function showExcluded() {
  $("exclude").setAttribute("aria-pressed", page.current?.excluded ?? false);
  $("exclude").textContent = page.current?.excluded ? "Excluded" : "Exclude";
}

$("exclude").addEventListener("click", () => exclude(page.current));

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
  if (row) row.labels = { state, positives: positives.length, negatives: negatives.length };
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

function useTool(tool) {
  if (page.run.read_only) tool = "look";
  page.tool = tool;
  viewer.tool = tool;
  viewer.ring = null;
  viewer.draw();
  for (const button of $("tool").children) button.setAttribute("aria-pressed", button.dataset.tool === tool);
  $("stage").classList.toggle("labelling", tool !== "look");
  $("label-help").textContent = page.run.read_only
    ? "This server only shows: nothing can be changed."
    : tool === "label"
      ? "Click: a particle. Click again on a pick: not one. Once more: no label. Shift or right click: not a particle."
      : tool === "measure"
      ? "Drag from the middle of a particle to its edge: the ring is its size."
      : "Drag moves, the wheel zooms, a click on a pick shows its score.";
}

const chosenPick = (no) => {
  if (viewer.chosen && page.labels && !page.run.read_only) {
    labels.click(page.labels, viewer.chosen[0], viewer.chosen[1], [viewer.chosen], 1.5, no);
  }
};

$("tool").addEventListener("click", (event) => {
  const tool = event.target.closest("button")?.dataset.tool;
  if (tool) useTool(tool);
});
$("looked").addEventListener("click", (event) => {
  const state = event.target.closest("button")?.dataset.state;
  if (state) labels.look(page.labels, state);
});
$("undo").addEventListener("click", () => labels.undo(page.labels));
$("redo").addEventListener("click", () => labels.redo(page.labels));
$("take").addEventListener("click", () => {
  labels.take(page.labels, page.info.peaks.filter((peak) => peak[2] >= threshold.value));
});
$("theirs").addEventListener("click", () => labels.theirs(page.labels).catch(told));
$("mine").addEventListener("click", () => labels.mine(page.labels).catch(told));

// ---- display

const filterPicture = () => {
  const smooth = Number($("smooth").value);
  viewer.base.style.filter =
    `brightness(${$("brightness").value}%) contrast(${$("contrast").value}%)${smooth ? ` blur(${smooth / 2}px)` : ""}`;
};
for (const id of ["contrast", "brightness", "smooth"]) $(id).addEventListener("input", filterPicture);
// ---- picking, where there are no picks yet

function useRadius(radius) {
  if (!(radius >= 2)) return;
  $("radius").value = radius;
  localStorage.setItem("picker-radius", radius);
  viewer.radius = radius;
  viewer.draw();
}

$("radius").addEventListener("change", () => useRadius(Number($("radius").value)));

async function followPicking() {
  for (;;) {
    const { data } = await ask("/api/picking");
    const { phase, done, total, picks, error } = data.picking;
    const working = phase === "picking";
    $("pick-all").disabled = working || page.run.read_only;
    $("pick-stop").classList.toggle("hidden", !working);
    $("bar").classList.toggle("hidden", !working);
    $("bar").firstElementChild.style.width = `${(100 * done) / Math.max(1, total)}%`;
    if (working) $("pick-told").textContent = `${done} of ${words(total, "micrograph")}, ${words(picks, "pick")}`;
    else if (phase === "failed") $("pick-told").textContent = error;
    else if (phase === "stopped") $("pick-told").textContent = "Stopped; picking goes on from there.";
    if (phase === "done") {
      await loadRun();
      toast(`${words(picks, "pick")} on ${words(total, "micrograph")}`);
      route();
    }
    if (!working) return;
    await new Promise((resolve) => setTimeout(resolve, 400));
  }
}

$("pick-all").addEventListener("click", async () => {
  const radius = Number($("radius").value);
  if (!(radius >= 2)) return toast("Say the particle's radius first", true);
  try {
    await ask("/api/picking", { method: "POST", body: { radius_px: radius } });
    await followPicking();
  } catch (error) {
    told(error);
  }
});
$("pick-stop").addEventListener("click", () => ask("/api/picking", { method: "DELETE" }).catch(told));

const toggle = (id, key) => {
  $(id).addEventListener("change", () => {
    viewer[key] = $(id).checked;
    viewer.draw();
  });
};
toggle("circles", "circles");
toggle("below", "below");
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
      toast("The browser did not let this be copied: select it by hand", true);
    }
  });
}

// ---- keys

const KEYS = {
  g: toGrid,
  n: () => go(1),
  p: () => go(-1),
  c: () => $("circles").click(),
  b: () => $("below").click(),
  l: () => useTool(page.tool === "label" ? "look" : "label"),
  j: () => viewer.step(1),
  k: () => viewer.step(-1),
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
  e: () => exclude(page.current),
  a: () => page.labels && !page.run.read_only && labels.click(page.labels, ...viewer.middle(), [], 1, false),
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
    threshold.move(threshold.value + (event.key === "[" ? -0.01 : 0.01));
    return moved();
  }
  const isRange = event.target.matches("input[type=range]") && event.key.startsWith("Arrow");
  const isButton = event.target.matches("button, a") && event.key === "Enter";
  if (document.body.dataset.view !== "one" || isRange || isButton) return;
  if (page.run.read_only && "123".includes(event.key)) return;
  const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (act) {
    act();
    event.preventDefault();
  }
});

// ---- begin

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
  asked = null;
  // Mean scores are known once all peaks have been read.
  await loadRows();
  document.title = `${data.run} – picker`;
  $("run-name").textContent = data.run;
  $("only-shown").classList.toggle("hidden", !data.read_only);
  $("picks-folder").textContent = data.picks_folder;
  $("relion").textContent = `${data.picks_folder}/autopick.star`;
  $("cryosparc").textContent = `${data.picks_folder}/picked_particles.star`;
  $("train-line").textContent = `picker train --coordinates ${data.labels_folder} --labels partial`;
  $("cut").classList.toggle("hidden", !hasPicks());
  $("hand-over").classList.toggle("hidden", !hasPicks());
  $("pick").classList.toggle("hidden", hasPicks());
  $("pick-all").classList.toggle("hidden", !data.can_pick);
  document.querySelector("[data-tool=measure]").classList.toggle("hidden", hasPicks());
  if (hasPicks() && page.tool === "measure") useTool("look");
  threshold.set(data.floor ?? 0, data.threshold ?? 0.5, data.histogram.counts);
  $("totals").textContent = words(page.rows.length, "micrograph");
  $("axis-what").textContent = "all stored peaks by score";
  for (const button of [...$("looked").children, $("exclude")]) button.disabled = data.read_only;
}

async function begin() {
  try {
    await loadRows();
    await loadRun();
    $("radius").value = localStorage.getItem("picker-radius") ?? "";
    useTool("look");
    filterPicture();
    addEventListener("hashchange", route);
    route();
    if (!hasPicks()) await followPicking();
  } catch (error) {
    told(error);
    clearTimeout(toast.timer);
  }
}

begin();
