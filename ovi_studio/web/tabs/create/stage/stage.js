// Which clip is on the stage, and what its buttons do. The server renders the filmstrip (`element`), the live previews
// and the buttons; choosing among them needs no server, so a click is answered at once. `props` and `trigger` are
// Gradio's.
const MOST_COMPARED = 4;
const stage = document.querySelector("#stage");
const find = (selector) => stage.querySelector(selector);
const player = () => find("ovi-player");
const comparison = () => find("ovi-compare");
const cards = () => [...element.querySelectorAll("[data-show]")];
// Those of the filmstrip, the newest first, then those of a grid, which may be older.
const finished = () => [...stage.querySelectorAll("#filmstrip [data-state=done], #grid [data-state=done]")];
const says = (name, card) => window.ovi.filled(props.words[name], card.dataset);
const address = (id) => `studio/job/${id}`;

// Kept over a reload, in this window. No id: the newest clip, as soon as it is there.
const remembered = (name) => window.ovi.kept(`ovi-stage-${name}`, "sessionStorage") ?? "";
const remember = (name, value) => window.ovi.keep(`ovi-stage-${name}`, value, "sessionStorage");
let chosen = remembered("clip");
let watched = "";
let large = "clip";
let compared = [];
let batch = remembered("grid");
let shown = null;
// Clips that were seen here; none until the server has sent the first ones.
let known = null;

// Puts everything in its place after whatever has changed.
function arrange() {
  // Until the server has sent what there is, nothing is news.
  if (!element.firstElementChild) return;
  const clips = finished();
  const latest = cards().find((card) => card.dataset.state === "done");
  const live = [...stage.querySelectorAll("#status .live")];
  noticeNews(latest);
  const card = clips.find((each) => each.dataset.show === chosen) ?? latest;
  if (!live.length) large = "clip";
  const seen = live.find((each) => each.dataset.id === watched) ?? live[0];
  for (const each of live) each.hidden = each !== seen;
  compared = compared.filter((id) => clips.some((each) => each.dataset.show === id));
  const state = { clip: Boolean(card), live: live.length > 0, comparing: compared.length > 0, grid: Boolean(batch) };
  for (const [name, on] of Object.entries(state)) stage.toggleAttribute(`data-${name}`, on);
  stage.toggleAttribute("data-compared", compared.length > 1);
  stage.dataset.large = card ? large : "live";
  player()?.toggleAttribute("mini", Boolean(card) && large === "live");
  showClip(card);
  player()?.removeAttribute("autoplay");
  showCompared(clips);
  mark(card?.dataset.show, seen?.dataset.id);
}

// What is there when the page is opened is no news, nor what a deletion leaves or its undoing brings back.
function noticeNews(latest) {
  const ids = finished().map((card) => card.dataset.show);
  const isNews = known !== null && Boolean(latest) && !known.has(latest.dataset.show);
  known = new Set([...(known ?? []), ...ids]);
  if (!isNews) return;
  if (large === "live" && !chosen) large = "clip";
  player()?.setAttribute("autoplay", "");
  document.dispatchEvent(new CustomEvent("ovi:clip", { detail: { id: latest.dataset.show } }));
}

function showClip(card) {
  const id = card?.dataset.show ?? "";
  if (id === shown) return;
  shown = id;
  player()?.setAttribute("label", card ? says("clip", card) : "");
  player()?.setAttribute("address", id ? address(id) : "");
  document.dispatchEvent(new CustomEvent("ovi:part", { detail: { id: "" } }));
  trigger("choose", { id });
}

function mark(clip, live) {
  for (const card of cards()) {
    const id = card.dataset.show;
    const current = compared.length ? compared.includes(id) : id === (large === "live" ? live : clip);
    card.setAttribute("aria-pressed", String(current));
    card.dataset.mark = compared.includes(id) ? "ABCD"[compared.indexOf(id)] : "";
  }
  for (const cell of stage.querySelectorAll("#grid [data-show]")) {
    cell.setAttribute("aria-pressed", String(cell.dataset.show === clip));
  }
  find("#result-bar [data-act=compare]")?.setAttribute("aria-pressed", String(compared.length > 0));
  find("#result-bar [data-act=grid]")?.setAttribute("aria-pressed", String(Boolean(batch)));
}

// Comparing

function showCompared(clips) {
  if (!comparison()) return;
  const labels = new Map(clips.map((card) => [card.dataset.show, says("compared", card)]));
  const enough = compared.length > 1;
  comparison().clips = enough ? compared.map((id) => ({ address: address(id), label: labels.get(id) })) : [];
  if (enough) player()?.video?.pause();
}

function compare(id) {
  if (compared.includes(id)) compared = compared.filter((each) => each !== id);
  else compared = [...compared, id].slice(-MOST_COMPARED);
  arrange();
}

function endComparison() {
  compared = [];
  arrange();
}

// A grid of a batch

function openGrid(id) {
  batch = id;
  remember("grid", batch);
  trigger("grid", { batch });
  arrange();
}

function closeGrid() {
  batch = "";
  trigger("grid", { batch });
  remember("grid", "");
  arrange();
}

// Acting

function choose(card) {
  const id = card.dataset.show;
  if (card.dataset.state === "running") {
    watched = id;
    large = "live";
  } else if (compared.length) {
    return compare(id);
  } else {
    // The newest one is followed by the next.
    chosen = id === cards().find((each) => each.dataset.state === "done")?.dataset.show ? "" : id;
    remember("clip", chosen);
    large = "clip";
    player()?.setAttribute("autoplay", "");
  }
  return arrange();
}

function swap() {
  if (!stage.hasAttribute("data-live")) return;
  large = large === "clip" ? "live" : "clip";
  arrange();
}

const ACTS = {
  swap,
  compare: ({ id }) => (compared.length ? endComparison() : compare(id)),
  grid: ({ batch: id }) => (batch ? closeGrid() : openGrid(id)),
  "close-grid": closeGrid,
  part: ({ id }) => document.dispatchEvent(new CustomEvent("ovi:part", { detail: { id } })),
  improve: ({ id }) => document.dispatchEvent(new CustomEvent("ovi:improve", { detail: { jobs: [id] } })),
  favourite: ({ id }, target) => trigger("favourite", { id, favourite: target.getAttribute("aria-pressed") !== "true" }),
};
const SENT = ["vary", "new_sound", "new_picture", "use", "frame", "extend", "remove", "cancel"];
// These fill the form, which a sheet over it would hide.
const FILLS = ["use", "frame", "extend"];

stage.addEventListener("click", (event) => {
  // After the mouse the space bar plays again, and does not repeat the click.
  if (event.detail) event.target.closest("[data-show], [data-act]")?.blur();
  const card = event.target.closest("[data-show]");
  if (card) return choose(card);
  const target = event.target.closest("[data-act]");
  if (!target) return undefined;
  const { act, id } = target.dataset;
  if (ACTS[act]) return ACTS[act](target.dataset, target);
  if (FILLS.includes(act)) document.dispatchEvent(new CustomEvent("ovi:filled"));
  return SENT.includes(act) ? trigger(act, { id }) : undefined;
});

stage.addEventListener("close", endComparison, true);

// A new request is what its maker wants to see next.
document.addEventListener("click", (event) => {
  if (!event.target.closest?.("#generate") || !chosen) return;
  chosen = "";
  remember("clip", "");
});

const isTyping = (event) => event.composedPath()[0].matches?.("input, textarea, select, [contenteditable=true], [role=slider]");

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || isTyping(event) || !stage.offsetParent) return;
  // A dialog, and whatever is in focus outside of the stage, has the keys for itself.
  const inside = stage.contains(event.target);
  if (document.querySelector("dialog:modal") || (!inside && event.target !== document.body)) return;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.toLowerCase();
  const active = compared.length > 1 ? comparison() : player();
  if (key === "p" && stage.hasAttribute("data-live")) swap();
  else if (key === "c" && shown) ACTS.compare({ id: shown });
  else if (key === "escape" && compared.length) endComparison();
  else if (key === "escape" && batch) closeGrid();
  else if (!active?.handleKey?.(event)) return;
  event.preventDefault();
});

// The stage is as high as the window has room for, below whatever stands above it.
function measure() {
  if (!stage.offsetParent) return;
  const top = stage.parentElement.getBoundingClientRect().top + scrollY;
  stage.style.setProperty("--stage-top", `${Math.round(top)}px`);
}
new ResizeObserver(measure).observe(document.body);
addEventListener("resize", measure);

watch("value", () => {
  document.dispatchEvent(new CustomEvent("ovi:stage"));
  if (batch) trigger("grid", { batch });
});
document.addEventListener("ovi:stage", arrange);
document.addEventListener("ovi:again", () => {
  if (shown) trigger("choose", { id: shown });
  if (batch) trigger("grid", { batch });
});
measure();
arrange();
if (batch) trigger("grid", { batch });
