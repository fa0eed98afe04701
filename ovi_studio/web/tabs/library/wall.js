// The wall: posters that play under the pointer, a selection by mouse and keyboard, and what was clicked, by id.
// `element` and `trigger` are Gradio's.
const HOVER_DELAY = 250;
const all = (selector) => [...element.querySelectorAll(selector)];
const boxes = () => all("input[data-act=pick]");
const posters = () => all("button.poster");
const ticked = () => boxes().filter((box) => box.checked).map((box) => box.dataset.id);
let focused = null;
let anchor = null;
const remember = (target) => {
  focused = { act: target.dataset.act, id: target.dataset.id };
};
const announce = (name, detail) => document.dispatchEvent(new CustomEvent(name, { detail }));

// Selecting

function pick(id, checked) {
  const box = boxes().find((one) => one.dataset.id === id);
  if (box) box.checked = checked ?? !box.checked;
  anchor = id;
  report();
}

// From the clip that was picked before to this one, as in file managers.
function pickRange(id, checked) {
  const ids = boxes().map((box) => box.dataset.id);
  const [from, to] = [ids.indexOf(anchor), ids.indexOf(id)].sort((a, b) => a - b);
  if (from < 0) return pick(id, checked);
  boxes().slice(from, to + 1).forEach((box) => (box.checked = checked));
  report();
}

// One event for many changes in a row, each of which would otherwise be answered on its own.
let reported = "";
let reporting = 0;
function report() {
  clearTimeout(reporting);
  reporting = setTimeout(() => {
    const ids = ticked();
    reported = ids.join();
    trigger("pick", { ids });
  }, 60);
}

function pickAll(checked) {
  boxes().forEach((box) => (box.checked = checked));
  report();
}

element.addEventListener("click", (event) => {
  const target = event.target.closest("[data-act]");
  if (!target) return;
  remember(target);
  const { act, id } = target.dataset;
  if (act === "pick") {
    // A click on the label comes once more, for its box.
    if (event.shiftKey) pickRange(id, target.checked);
    else pick(id, target.checked);
  } else if (act === "open" && (event.ctrlKey || event.metaKey)) {
    pick(id);
  } else if (act === "open" && event.shiftKey) {
    pickRange(id, true);
  } else if (act === "open") {
    announce("ovi:lightbox", { id });
  } else if (act === "mark") {
    trigger("mark", { ids: [id], favourite: target.getAttribute("aria-pressed") !== "true" });
  }
});

// On a poster: arrows go to its neighbours, X selects, Delete deletes it or the selection. Ctrl+A selects all.
element.addEventListener("keydown", (event) => {
  const id = event.target.dataset.id;
  if (!id || event.altKey) return;
  const handled = () => event.preventDefault();
  if ((event.ctrlKey || event.metaKey) && event.key === "a") {
    pickAll(true);
    return handled();
  }
  if (event.ctrlKey || event.metaKey) return;
  if (event.key === "x" || event.key === "X") {
    pick(id);
    return handled();
  }
  if (event.key === "Escape" && ticked().length) {
    pickAll(false);
    return handled();
  }
  if (event.key === "Delete" && posters().length) {
    trigger("trash", { ids: ticked().length ? ticked() : [id] });
    return handled();
  }
  if (event.target.matches("button.poster") && move(event.target, event.key, event.shiftKey)) handled();
});

function move(poster, key, extending) {
  const cards = posters();
  const row = cards.filter((card) => card.getBoundingClientRect().top === cards[0].getBoundingClientRect().top).length;
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -row, ArrowDown: row };
  const next = cards[cards.indexOf(poster) + (steps[key] ?? NaN)];
  if (!next) return false;
  next.focus();
  if (extending) {
    anchor ??= poster.dataset.id;
    pickRange(next.dataset.id, true);
  }
  return true;
}

// Playing under the pointer: one video at a time, without sound.

let hovering = 0;
let video = null;
const stop = () => {
  clearTimeout(hovering);
  video?.remove();
  video = null;
};

element.addEventListener("pointerover", (event) => {
  const poster = event.target.closest("button.poster");
  if (!poster || event.pointerType !== "mouse" || poster.contains(event.relatedTarget)) return;
  stop();
  if (matchMedia("(prefers-reduced-motion: reduce)").matches || navigator.connection?.saveData) return;
  hovering = setTimeout(() => {
    video = document.createElement("video");
    Object.assign(video, { muted: true, loop: true, playsInline: true, src: `studio/clip/${poster.dataset.id}/clip.mp4` });
    video.setAttribute("aria-hidden", "true");
    poster.append(video);
    video.play().catch(stop);
  }, HOVER_DELAY);
});
element.addEventListener("pointerout", (event) => {
  if (event.target.closest("button.poster")?.contains(event.relatedTarget) === false) stop();
});

// The selection's actions that need no handler

document.addEventListener("ovi:download-selected", () => {
  // A form and not a link, since hundreds of ids are too long for an address.
  const form = document.createElement("form");
  Object.assign(form, { method: "post", action: "studio/clips.zip", hidden: true });
  const field = document.createElement("input");
  Object.assign(field, { name: "ids", value: ticked().join(" ") });
  form.append(field);
  document.body.append(form);
  form.submit();
  form.remove();
});
document.addEventListener("ovi:clear-selection", () => pickAll(false));
document.addEventListener("ovi:compare-selected", () => announce("ovi:compare", { ids: ticked() }));
document.addEventListener("ovi:improve-selected", () => announce("ovi:improve", { clips: ticked() }));

// The lightbox asks for what is left and right of a clip, on other pages, too.
let awaited = null;
document.addEventListener("ovi:turn", (event) => {
  const button = document.querySelectorAll("#library-pages button")[event.detail.step > 0 ? 1 : 0];
  if (!button || button.disabled) return;
  awaited = event.detail.step;
  trigger(awaited > 0 ? "forth" : "back");
});

// Gradio reuses the old cards for new clips, so that a tick would stay on a card that now shows another clip. Focus is
// restored for keyboard users.
watch("value", () => {
  stop();
  for (const box of boxes()) box.checked = box.defaultChecked;
  if (ticked().join() !== reported) report();
  const ids = posters().map((poster) => poster.dataset.id);
  announce("ovi:wall", { ids });
  if (awaited !== null && ids.length) announce("ovi:lightbox", { id: ids[awaited > 0 ? 0 : ids.length - 1] });
  awaited = null;
  const lost = !document.activeElement || document.activeElement === document.body;
  if (!focused || !lost) return;
  for (const candidate of all(`[data-act="${focused.act}"]`)) {
    if (candidate.dataset.id === focused.id) candidate.focus({ preventScroll: true });
  }
});

window.ovi.whileShown(element, (visible) => trigger(visible ? "shown" : "hidden"));
