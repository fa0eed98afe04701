// The storyboard. `props.value` is {shots: [{id, clip, html}], empty}; every `html` is escaped on the server. Only changed
// cards are replaced, and none whose form is open. `element`, `props`, `trigger`, `upload` and `watch` are Gradio's.
const { filled } = window.ovi;
const shown = new Map();
let dragged = null;

const list = () => element.querySelector(".shots");
const dialog = () => element.querySelector("dialog");
const cards = () => [...list().children];
const act = (action, shot, more) => trigger("act", { action, shot, ...more });

function render() {
  const { shots = [], empty = "" } = props.value ?? {};
  if (!list() || dragged) return;
  if (!list().children.length) shown.clear();
  const wanted = new Set(shots.map((shot) => shot.id));
  for (const [id, entry] of shown) {
    if (wanted.has(id)) continue;
    entry.node.remove();
    shown.delete(id);
  }
  shots.forEach((shot, index) => {
    const node = update(shot);
    if (list().children[index] !== node) list().insertBefore(node, list().children[index] ?? null);
  });
  const none = element.querySelector(".none");
  none.textContent = empty;
  none.hidden = !empty;
}

function update(shot) {
  let entry = shown.get(shot.id);
  if (!entry) {
    const node = document.createElement("li");
    node.className = "shot";
    node.dataset.id = shot.id;
    node.draggable = true;
    entry = { node, html: "" };
    shown.set(shot.id, entry);
  }
  entry.clip = shot.clip;
  const editing = entry.node.querySelector("form:not([hidden])");
  if (entry.html !== shot.html && !editing) {
    const focused = entry.node.contains(document.activeElement) ? document.activeElement.dataset : null;
    entry.html = shot.html;
    entry.node.innerHTML = shot.html;
    if (focused?.action) {
      const take = focused.take ? `[data-take="${focused.take}"]` : "";
      entry.node.querySelector(`[data-action="${focused.action}"]${take}`)?.focus();
    }
  }
  return entry.node;
}

function edit(card, open) {
  const form = card.querySelector("form");
  form.hidden = !open;
  card.draggable = !open;
  if (open) form.querySelector("textarea").focus();
  else {
    form.reset();
    render();
    card.querySelector("[data-action=edit]")?.focus();
  }
}

function play(card) {
  const clips = cards().slice(cards().indexOf(card)).map((node) => [node, shown.get(node.dataset.id).clip]);
  const made = clips.filter(([, clip]) => clip);
  const video = dialog().querySelector("video");
  let next = 0;
  video.onended = () => {
    if (next >= made.length) return dialog().close();
    const [node, clip] = made[next++];
    dialog().querySelector("p").textContent = filled(props.words.played, { number: cards().indexOf(node) + 1, count: cards().length });
    video.src = clip;
    video.play().catch(() => {});
  };
  if (!made.length) return;
  if (!dialog().open) dialog().showModal();
  video.onended();
}

function move(card, position) {
  if (position !== cards().indexOf(card)) act("move", card.dataset.id, { position });
}

element.addEventListener("click", (event) => {
  if (event.target === dialog()) return dialog().close();
  const button = event.target.closest("[data-action]");
  if (!button) return;
  if (button.dataset.action === "end") return dialog().close();
  const card = button.closest(".shot");
  const acts = {
    play: () => play(card),
    earlier: () => move(card, cards().indexOf(card) - 1),
    later: () => move(card, cards().indexOf(card) + 1),
    again: () => act("again", card.dataset.id),
    choose: () => act("choose", card.dataset.id, { take: Number(button.dataset.take) }),
    edit: () => edit(card, true),
    close: () => edit(card, false),
  };
  acts[button.dataset.action]?.();
});

// The first frame is uploaded before: what is sent names only that upload.
element.addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  const card = form.closest(".shot");
  const { picture, ...values } = Object.fromEntries(new FormData(form));
  try {
    if (picture?.size) values.picture = (await upload(picture)).path;
  } catch {
    const detail = { text: props.words.notUploaded };
    document.dispatchEvent(new CustomEvent("ovi:toast", { detail }));
    return;
  }
  form.hidden = true;
  card.draggable = true;
  act("edit", card.dataset.id, { values });
});

element.addEventListener("keydown", (event) => {
  const card = event.target.closest?.(".shot");
  if (card && event.key === "Escape" && event.target.closest("form")) edit(card, false);
});

element.addEventListener("dragstart", (event) => {
  dragged = event.target.closest?.(".shot");
  if (!dragged) return;
  event.dataTransfer.effectAllowed = "move";
  event.dataTransfer.setData("text/plain", dragged.dataset.id);
});

element.addEventListener("dragover", (event) => {
  if (dragged && event.target.closest?.(".shot")) event.preventDefault();
});

element.addEventListener("drop", (event) => {
  const over = event.target.closest?.(".shot");
  if (!dragged || !over || over === dragged) return;
  event.preventDefault();
  move(dragged, cards().indexOf(over));
});

element.addEventListener("dragend", () => {
  dragged = null;
  render();
});

dialog().addEventListener("close", () => {
  const video = dialog().querySelector("video");
  video.pause();
  video.removeAttribute("src");
});

document.addEventListener("ovi:film", () => cards().length && play(cards()[0]));

window.ovi.whileShown(element, (visible) => trigger(visible ? "shown" : "hidden"));

watch("value", render);
render();
