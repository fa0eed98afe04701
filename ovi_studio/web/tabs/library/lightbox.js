// The lightbox: one clip as large as the window, its settings next to it, and its neighbours by the arrow keys.
// `props`, `element` and `trigger` are Gradio's. Everything that people wrote is inserted as text.
const words = props.words;
const { make, filled } = window.ovi;
let ids = [];
let shown = null;
let opener = null;

function button(text, label, act, className = "") {
  const made = make("button", { type: "button", textContent: text, className, title: label, "aria-label": label });
  made.addEventListener("click", act);
  return made;
}

const player = document.createElement("ovi-player");
const compare = document.createElement("ovi-compare");
const stage = make("div", { className: "lightbox-stage" }, player, compare);
const prompt = make("p", { className: "prompt", tabIndex: 0, role: "region", "aria-label": words.prompt });
const star = button("♡", words.favourite, () => mark(), "star");
const tags = make("ul", { className: "tags", "aria-label": words.tags });
const field = make("input", { type: "text", placeholder: words.addTag, maxLength: 200, "aria-label": words.addTag });
const facts = document.createElement("dl");
const download = make("a", { textContent: words.download, className: "action", download: "" });
const forms = document.createElement("ovi-save");
const trouble = make("p", { className: "trouble", hidden: true });
const actions = make(
  "div",
  { className: "actions" },
  button(words.use, words.use, () => leave("use"), "action primary"),
  button(words.continue, words.continue, () => leave("continued"), "action wide"),
  button(words.improve, words.improve, () => improve(), "action wide"),
  download,
  forms,
  button(words.compare, words.compareKey, () => showComparison([shown]), "action"),
  button(words.delete, words.deleteKey, () => trash(), "action"),
);
const panel = make("div", { className: "lightbox-side" }, trouble, prompt, actions, tags, field, facts);
const previous = button("‹", words.previous, () => step(-1), "turn previous");
const next = button("›", words.next, () => step(1), "turn next");
const position = make("p", { className: "position", role: "status" });
const close = button("×", words.close, () => dialog.close(), "close");
const bar = make("div", { className: "lightbox-top" }, position, make("p", { className: "hints", textContent: words.hints }), star, close);
const dialog = make("dialog", { id: "lightbox", tabIndex: -1, "aria-label": words.title }, bar, previous, stage, next, panel);
// Only there do rules for certain widths apply (Gradio 6.31).
(element.closest(".contain") ?? document.body).append(dialog);

// Showing

// No control has the focus at first, so that the space bar plays.
function open() {
  if (dialog.open) return;
  opener = document.activeElement;
  dialog.showModal();
  dialog.focus();
}

async function show(id) {
  shown = id;
  open();
  stage.classList.remove("comparing");
  compare.clips = [];
  player.setAttribute("autoplay", "");
  player.setAttribute("address", `studio/clip/${id}`);
  download.href = `studio/clip/${id}/clip.mp4?download=1`;
  forms.setAttribute("address", `studio/clip/${id}`);
  const at = ids.indexOf(id);
  position.textContent = at < 0 ? "" : filled(words.position, { at: at + 1, count: ids.length });
  await refresh();
}

async function refresh() {
  const id = shown;
  const { found, reason = "" } = await about(id);
  if (id !== shown) return;
  trouble.textContent = reason;
  trouble.hidden = !reason;
  if (!found) return;
  player.setAttribute("label", found.prompt.slice(0, 100));
  prompt.textContent = found.prompt;
  star.textContent = found.favourite ? "♥" : "♡";
  star.setAttribute("aria-pressed", String(found.favourite));
  tags.replaceChildren(...found.tags.map(tagItem));
  facts.replaceChildren(...found.facts.map(([name, text]) => make("div", {}, make("dt", { textContent: name }), make("dd", { textContent: text }))));
}

async function about(id) {
  try {
    const answer = await fetch(`studio/clip/${id}/about.json`, { cache: "no-store" });
    return answer.ok ? { found: await answer.json() } : { reason: words.gone };
  } catch {
    return { reason: words.lost };
  }
}

function tagItem(tag) {
  const remove = button("×", `${words.removeTag} ${tag}`, () => trigger("tag", { ids: [shown], remove: tag }), "remove");
  return make("li", {}, make("span", { textContent: tag }), remove);
}

// Acting

function step(by) {
  const at = ids.indexOf(shown);
  const id = ids[at + by];
  if (id) show(id);
  else document.dispatchEvent(new CustomEvent("ovi:turn", { detail: { step: by } }));
}

const improve = () => document.dispatchEvent(new CustomEvent("ovi:improve", { detail: { clips: [shown] } }));

const mark = () => trigger("mark", { ids: [shown], favourite: star.getAttribute("aria-pressed") !== "true" });

function trash() {
  const gone = shown;
  const at = ids.indexOf(gone);
  const follower = ids[at + 1] ?? ids[at - 1];
  ids = ids.filter((id) => id !== gone);
  trigger("trash", { ids: [gone] });
  if (follower) show(follower);
  else dialog.close();
}

function leave(event) {
  trigger(event, { ids: [shown] });
  dialog.close();
}

// With the selected clips, or with the next one.
async function showComparison(chosen) {
  const selected = [...document.querySelectorAll("#wall input[data-act=pick]:checked")].map((box) => box.dataset.id);
  const others = selected.length ? selected : [ids[(ids.indexOf(shown) + 1) % ids.length]];
  const compared = [...new Set([...chosen, ...others])].filter(Boolean).slice(0, 4);
  if (compared.length < 2) return;
  shown = compared[0];
  open();
  const found = await Promise.all(compared.map(about));
  const clips = compared.map((id, index) => ({
    address: `studio/clip/${id}`,
    label: labelOf(found[index].found),
  }));
  stage.classList.add("comparing");
  player.removeAttribute("address");
  compare.clips = clips;
  compare.focus();
  await refresh();
}
const labelOf = (clip) => (clip ? `${words.seed} ${clip.facts[0][1]}: ${clip.prompt.slice(0, 60)}` : words.title);
compare.addEventListener("close", () => show(shown));

const KEYS = {
  ArrowLeft: () => step(-1),
  ArrowRight: () => step(1),
  f: () => mark(),
  d: () => download.click(),
  c: () => showComparison([shown]),
  Delete: () => trash(),
};

// Before the player, which has other meanings for arrows and F.
dialog.addEventListener(
  "keydown",
  (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target === field || event.target === forms) return;
    const comparing = stage.classList.contains("comparing");
    if (comparing && event.key === "Escape") {
      event.preventDefault();
      return show(shown);
    }
    const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (act && !(comparing && event.key.startsWith("Arrow"))) {
      event.preventDefault();
      event.stopPropagation();
      return act();
    }
    const onButton = event.target.closest("button, a, input");
    if (onButton && [" ", "Enter"].includes(event.key)) return;
    const screen = comparing ? compare : player;
    if (!event.composedPath().includes(screen) && screen.handleKey?.(event)) event.preventDefault();
  },
  true,
);

field.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !field.value.trim()) return;
  trigger("tag", { ids: [shown], add: field.value });
  field.value = "";
});

dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});

dialog.addEventListener("close", () => {
  player.removeAttribute("address");
  compare.clips = [];
  const card = document.querySelector(`#wall button.poster[data-id="${shown}"]`);
  (card ?? opener)?.focus?.({ preventScroll: true });
  opener = null;
});

document.addEventListener("ovi:lightbox", (event) => show(event.detail.id));
document.addEventListener("ovi:compare", (event) => showComparison(event.detail.ids));
document.addEventListener("ovi:wall", (event) => {
  ids = event.detail.ids;
  // What was noted about the clip may have changed.
  if (dialog.open) refresh();
});
document.addEventListener("ovi:again", () => dialog.open && refresh());
