// What the form keeps of a clip. `props.value` is null, or the clip's file and the fields of a source, with spans of seconds
// as in `core/spans`: "all", or what is before and after the part that is made again.
const group = element.querySelector(".kept");
const title = group.querySelector("b");
const more = group.querySelector(".more");
const field = (name) => group.querySelector(`[name=${name}]`);
const AROUND = /^(?:0-([\d.]+))?(?:^|,|$)(?:([\d.]+)-)?$/;

// The time that is made again of a half: null for none of it, undefined for more than one span.
function madeAgain(kept) {
  if (kept === "all") return null;
  const found = AROUND.exec(kept ?? "");
  return found ? { from: found[1] ?? "", to: found[2] ?? "" } : undefined;
}

function shownPart({ keep_picture, keep_sound }) {
  const picture = madeAgain(keep_picture);
  const sound = madeAgain(keep_sound);
  if (picture === null && sound) return { ...sound, only: "sound" };
  if (sound === null && picture) return { ...picture, only: "picture" };
  return picture && keep_picture === keep_sound ? { ...picture, only: "" } : undefined;
}

function show() {
  const value = props.value;
  group.hidden = !value;
  if (!value) return;
  title.textContent = window.ovi.filled(props.words.title, { clip: value.clip });
  const part = shownPart(value);
  group.querySelector(".span").hidden = !part;
  for (const name of part ? ["from", "to", "only"] : []) {
    if (field(name) !== document.activeElement) field(name).value = part[name];
  }
  const words = [];
  const kept = { picture: value.keep_picture ?? "–", sound: value.keep_sound ?? "–" };
  if (!part) words.push(window.ovi.filled(props.words.spans, kept));
  if (part?.to && Number(part.to) <= Number(part.from)) words.push(props.words.backwards);
  if (value.strength < 1) words.push(window.ovi.filled(props.words.strength, { strength: value.strength }));
  more.textContent = words.join(" ");
  more.hidden = !words.length;
}

// What the script sets is not watched.
function set(value) {
  props.value = value;
  show();
}

function change() {
  const from = Number(field("from").value || 0);
  const to = field("to").value;
  const around = [from > 0 && `0-${from}`, to && `${Number(to)}-`].filter(Boolean).join(",") || null;
  const only = field("only").value;
  const [keep_picture, keep_sound] = [only === "sound" ? "all" : around, only === "picture" ? "all" : around];
  set({ ...props.value, keep_picture, keep_sound });
}

function forget() {
  const before = props.value;
  set(null);
  const undo = () => set(before);
  document.dispatchEvent(new CustomEvent("ovi:toast", { detail: { text: props.words.dropped, undo } }));
}

group.addEventListener("change", change);
group.querySelector("button").addEventListener("click", forget);
watch("value", show);
show();
