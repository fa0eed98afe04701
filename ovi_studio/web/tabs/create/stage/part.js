// Which part of the clip on the stage is made again: marked on the waveform, with Shift and the arrows, or in the fields.
// `element` and `trigger` are Gradio's.
const form = element.querySelector("form");
const fields = form.elements;
const player = () => document.querySelector("#clip ovi-player");
let clip = "";

function open(id) {
  clip = id;
  form.hidden = !id;
  form.reset();
  player()?.toggleAttribute("marking", Boolean(id));
  player()?.mark(null);
}

function close() {
  open("");
  document.querySelector("#result-bar [data-act=part]")?.focus();
}

const number = (field) => (field.value === "" ? null : Number(field.value));

document.addEventListener("ovi:part", ({ detail: { id } }) => {
  if (id && id === clip) return close();
  open(id);
  if (id) fields.from.focus();
  return undefined;
});

// What is marked without the button opens the bar, too.
document.addEventListener("ovi:marked", ({ detail: { from, to, atEnd } }) => {
  if (!clip) {
    const id = document.querySelector("#result-bar .acts")?.dataset.of;
    if (!id) return;
    open(id);
  }
  fields.from.value = from ? from.toFixed(2) : "";
  fields.to.value = atEnd ? "" : to.toFixed(2);
  player().mark({ from, to });
});

form.addEventListener("input", () => {
  const end = player().video.duration || 0;
  player().mark({ from: number(fields.from) ?? 0, to: number(fields.to) ?? end });
});

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const id = clip;
  const sent = { id, from: number(fields.from), to: number(fields.to), only: fields.only.value };
  close();
  document.dispatchEvent(new CustomEvent("ovi:filled"));
  trigger("part", sent);
});

form.querySelector(".close").addEventListener("click", close);
form.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  event.preventDefault();
  close();
});
