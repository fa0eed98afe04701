// On a narrow screen the stage is a sheet over the form: it comes up when a clip starts or is finished, and can be
// dragged or closed. `element` holds its handle.
const sheet = document.querySelector("#stage");
const handle = element.querySelector(".handle");
const words = handle.querySelector("span");
const narrow = matchMedia("(max-width: 900px)");
const CLICK = 6;
let drag = null;
let dragged = false;
let running = null;

const isOpen = () => sheet.classList.contains("open");

function setOpen(open) {
  sheet.classList.toggle("open", open);
  handle.setAttribute("aria-expanded", String(open));
}

// Whoever is typing must not be interrupted.
function comeUp() {
  if (narrow.matches && !window.ovi.isText(document.activeElement)) setOpen(true);
}

function describe() {
  if (!sheet.querySelector("#filmstrip :is(.strip, .hint)")) return;
  const live = sheet.querySelector("#status .live:not([hidden]) .state");
  const clip = sheet.querySelector("#filmstrip [data-state=done]");
  words.textContent = live?.textContent ?? (clip ? window.ovi.filled(props.words.clip, clip.dataset) : props.words.clips);
  const now = sheet.querySelector("#status .live")?.dataset.id ?? "";
  // What runs when the page is opened has not started now.
  if (running !== null && now && now !== running) comeUp();
  running = now;
}

handle.addEventListener("pointerdown", (event) => {
  handle.setPointerCapture(event.pointerId);
  drag = { from: event.clientY, open: isOpen(), by: 0 };
  dragged = false;
  sheet.classList.add("dragging");
});

handle.addEventListener("pointermove", (event) => {
  if (!drag) return;
  drag.by = event.clientY - drag.from;
  sheet.style.setProperty("--drag", `${drag.open ? Math.max(0, drag.by) : Math.min(0, drag.by)}px`);
});

function drop() {
  if (!drag) return;
  const { by, open } = drag;
  drag = null;
  sheet.classList.remove("dragging");
  sheet.style.removeProperty("--drag");
  dragged = Math.abs(by) > CLICK;
  if (dragged) setOpen(open ? by < 80 : by < -40);
}
handle.addEventListener("pointerup", drop);
handle.addEventListener("pointercancel", drop);

handle.addEventListener("click", () => {
  // The click at the end of a drag is none.
  if (!dragged) setOpen(!isOpen());
  dragged = false;
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.defaultPrevented || !narrow.matches || !isOpen()) return;
  setOpen(false);
  handle.focus();
});
document.addEventListener("ovi:filled", () => narrow.matches && setOpen(false));
document.addEventListener("ovi:clip", comeUp);
document.addEventListener("ovi:stage", describe);
describe();
