// The whole form is kept in the browser as it is typed, and every replacement of it can be undone. `props.names` are the
// names of the form's values in the order in which `keep` receives them and `taken` returns them.
const composer = (window.composer = {});
const QUIET = 60;
const READING = 250;
const MOST_UNDOS = 30;
const DRAFT = "ovi-draft";
const UNDO = "ovi-undo";
const BEFORE_EDITING = "ovi-before-editing";

const { make } = window.ovi;
const read = (name, otherwise) => window.ovi.keptValue(name) ?? otherwise;
const write = (name, value) => window.ovi.keep(name, JSON.stringify(value));

let form = null;
let seen = null;
let timer = 0;
let putting = null;
let pending = [];
let restored = false;
let cameFrom = null;
const { undo = [], redo = [] } = read(UNDO, {});

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);
const content = ({ origin, editing, ...rest }) => rest;

// Several components change with one answer of the server: what counts is the form after that.
composer.keep = (values) => {
  seen = values;
  clearTimeout(timer);
  timer = setTimeout(settle, QUIET);
};

function settle() {
  clearTimeout(timer);
  if (!seen) return;
  const now = Object.fromEntries(props.names.map((name, index) => [name, seen[index] ?? null]));
  seen = null;
  if (putting && now.origin?.id !== putting.origin?.id) return;
  putting = null;
  if (form && restored && framed(form, now)) return forgetKept(form, now);
  if (form && restored && now.origin?.id !== form.origin?.id) replaced(form, now);
  form = now;
  FILES.filter((name) => form[name]?.path).forEach((name) => keepFile(form[name]));
  if (restored) write(DRAFT, form);
  else restore();
  show();
  noticeChanges();
}

// What the server says about the form depends on the values that `props.asked` names by event: it is asked when typing
// pauses, if the last question was about other values. An empty form has nothing to say until something was said of it.
// Gradio finds events by their names in quotes.
const IDLE = {
  "inspect": ({ prompt, cues, sound, table }) => !table && !prompt && !sound && !cues?.cues?.length,
  "preview": ({ table }) => !table,
};
const PAUSE = 150;
let asking = 0;
let asked = {};

function noticeChanges() {
  clearTimeout(asking);
  asking = setTimeout(ask, PAUSE);
}

function ask() {
  // A form that is being put back is not yet in the components, whose values are sent.
  if (!form || putting) return;
  for (const [event, names] of Object.entries(props.asked)) {
    const untouched = !(event in asked) && IDLE[event](form);
    if (!untouched && asked[event] !== text(names.map((name) => form[name]))) trigger(event);
  }
}
// What was sent counts, and not what should have been: whatever differs from it is asked once more.
composer.asks = (event, values) => {
  asked[event] = text(values);
  return values;
};
const text = (values) => JSON.stringify(values.map((value) => value ?? null));
// Questions that the server did not answer, and the sizes of a model that was chosen meanwhile.
document.addEventListener("ovi:again", () => {
  asked = {};
  noticeChanges();
  trigger("again");
});

// A first frame and a kept beginning both say what a clip begins with: the one that came last counts.
const framed = (before, now) =>
  Boolean(now.image?.path) && now.image.path !== before.image?.path && /^(all$|0-)/.test(now.kept?.keep_picture ?? "");

function forgetKept(before, now) {
  const next = { ...now, kept: null, origin: fresh() };
  if (next.editing) toast(props.words.kept_or_frame, () => put(before));
  else replaced(before, next, props.words.kept_or_frame);
  put(next);
}

function replaced(before, now, words = before.kept && !now.kept ? props.words.kept_dropped : props.words.replaced) {
  if (now.editing) {
    // Leaving the edit mode brings the form of before back.
    if (!before.editing) write(BEFORE_EDITING, { form: before, place: cameFrom });
    return;
  }
  if (same(content(before), content(now))) return;
  undo.push(before);
  undo.splice(0, undo.length - MOST_UNDOS);
  redo.length = 0;
  write(UNDO, { undo, redo });
  toast(words, () => {
    while (undo.includes(before) && undo.at(-1) !== before) redo.push(undo.pop());
    if (undo.at(-1) === before) step(undo, redo);
  });
}

const toast = (text, undo = null) => document.dispatchEvent(new CustomEvent("ovi:toast", { detail: { text, undo } }));

function show() {
  if (!form) return;
  element.querySelector("[data-act=undo]").disabled = !undo.length;
  element.querySelector("[data-act=redo]").disabled = !redo.length;
  const raw = Boolean(form.cues?.raw);
  element.querySelector("[data-act=raw]").setAttribute("aria-pressed", String(raw));
  const column = element.closest("#composer");
  column?.classList.toggle("raw", raw);
  column?.classList.toggle("editing", Boolean(form.editing));
  const bar = element.querySelector(".edit-bar");
  bar.hidden = !form.editing;
  if (form.editing) bar.querySelector("strong").textContent = window.ovi.filled(props.words.editing, form.editing);
  showChips(form);
}

// Puts a whole form on the page; Gradio calls `taken` for its values, and `undefined` leaves a component as it is.
async function put(next) {
  putting = next;
  form = next;
  write(DRAFT, next);
  pending = await Promise.all(props.names.map((name) => revived(name, next[name])));
  trigger("put");
  show();
}
composer.taken = () => pending;
// After a whole form was put on the page, also one whose values were all there before.
composer.arrived = (values) => {
  putting = null;
  composer.keep(values);
};

function step(from, to) {
  settle();
  const next = from.pop();
  if (!next) return;
  to.push(form);
  write(UNDO, { undo, redo });
  put(next);
}
const fresh = () => ({ id: crypto.randomUUID?.() ?? String(Math.random()) });
composer.fill = (parts) => {
  settle();
  const next = { ...form, ...parts, origin: fresh(), editing: null };
  replaced(form, next);
  put(next);
};

// Leaves the edit mode: the form of before comes back, and the tab that the job was chosen in.
function leave() {
  const before = read(BEFORE_EDITING, null);
  write(BEFORE_EDITING, null);
  put(before ? before.form : { ...form, editing: null, origin: fresh() });
  if (before?.place) document.querySelector(`#tabs [data-tab-id="${before.place}"]`)?.click();
}
// The job that is edited when the main button is pressed, and whether it was saved then.
let saving = null;
composer.pressed = (values, parts) => {
  settle();
  saving = form?.editing ?? null;
  // Of the values that are sent: what was typed just before is not yet in `form`.
  if (!saving) usedPrompt({ prompt: values[parts.prompt], cues: values[parts.cues], sound: values[parts.sound] });
};
composer.answered = (editing) => {
  if (!saving || editing) return;
  toast(props.words.saved);
  leave();
};

function restore() {
  restored = true;
  const draft = read(DRAFT, {});
  // A draft of before an update lacks what the form has since.
  const next = { ...form, ...Object.fromEntries(props.names.filter((name) => name in draft).map((name) => [name, draft[name]])) };
  if (!same(next, form)) put(next);
}
// The values of an untouched form arrive without a change of any of them. Gradio may not listen yet.
function readForm() {
  if (form) return;
  trigger("read");
  setTimeout(readForm, READING);
}
setTimeout(readForm);

const acts = {
  undo: () => step(undo, redo),
  redo: () => step(redo, undo),
  raw: () => trigger("raw"),
  save: () => document.querySelector("#generate").click(),
  discard: leave,
};
element.addEventListener("click", (event) => {
  const act = event.target.closest("[data-act]")?.dataset.act;
  acts[act]?.();
});

document.addEventListener("keydown", (event) => {
  const key = event.key.toLowerCase();
  if (!(event.ctrlKey || event.metaKey) || event.altKey || !["z", "y"].includes(key)) return;
  if (event.defaultPrevented || window.ovi.isText(event.target) || !element.offsetParent) return;
  event.preventDefault();
  if (key === "y" || event.shiftKey) step(redo, undo);
  else step(undo, redo);
});
// Which tab an act began in, before it shows the form.
const remember = () => {
  settle();
  cameFrom = document.querySelector("#tabs [role=tab][aria-selected=true]")?.dataset.tabId ?? cameFrom;
};
for (const name of ["pointerdown", "keydown"]) document.addEventListener(name, remember, true);
addEventListener("pagehide", settle);
