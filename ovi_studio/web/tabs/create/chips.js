// Chips that show the settings, each with a popover that holds its components.
const chips = document.querySelector.bind(document);
const says = (name, values = {}) => window.ovi.filled(props.words.chips[name], values);
const facts = () => document.querySelector("#model-facts .facts")?.dataset;
const models = () => JSON.parse(facts()?.models ?? "[]");
const looks = () =>
  [...document.querySelectorAll("#presets [data-preset]")].map((card) => ({
    name: card.dataset.preset,
    title: card.querySelector("strong").firstChild.textContent.trim(),
    values: JSON.parse(card.dataset.values ?? "{}"),
    card,
  }));

const matches = (values, form) =>
  Object.entries(values).every(([name, value]) => String(form[name] ?? "") === String(value ?? ""));

function lookOf(form) {
  const all = looks();
  const fitting = all.filter((look) => matches(look.values, form));
  const chosen = all.find((look) => look.name === form.look);
  const used = fitting.find((look) => look === chosen) ?? fitting[0] ?? null;
  for (const { card, name } of all) {
    card.setAttribute("aria-pressed", String(name === used?.name));
    card.classList.toggle("changed", !used && name === form.look);
  }
  if (used) return used.title;
  return chosen ? says("changed", chosen) : says("own_preset");
}

// A form that is replaced arrives field by field: chips that showed each of them would jump between the lines.
const SETTLED = 100;
let settling = 0;

function showChips(form) {
  clearTimeout(settling);
  settling = setTimeout(() => drawChips(form), SETTLED);
}

function drawChips(form) {
  const known = models();
  const model = known.find((one) => one.name === form.variant);
  const drawn = form.seed || says("random");
  const seed = { random: says("random"), fixed: drawn, next: says("then_next", { seed: drawn }) };
  const texts = {
    model: model?.title ?? form.variant ?? says("none"),
    look: lookOf(form),
    ratio: form.image ? says("first_frame") : form.ratio === "own" ? says("own_ratio") : (form.ratio ?? ""),
    length: model ? says("seconds", model) : "",
    steps: form.timesteps ? says("explicit", form) : String(form.steps ?? ""),
    seed: seed[form.seed_mode] ?? "",
    count: String(form.count ?? 1),
  };
  for (const [name, text] of Object.entries(texts)) {
    const chip = chips(`#chips [data-chip=${name}]`);
    if (!chip || !connectChip(chip)) showChips(form);
    if (!chip) continue;
    chip.querySelector("b").textContent = text;
    chip.title = `${chip.querySelector("span").textContent}: ${text}`;
  }
  showLengths(known, model);
}

// A model makes clips of one length: choosing another length chooses the model nearest to the present one.
function showLengths(known, model) {
  const list = chips("#pop-length .lengths");
  if (!list || !model) return;
  const nearest = new Map();
  const distance = (one) => Math.abs(one.area - model.area);
  for (const one of known) {
    const other = nearest.get(one.seconds);
    if (one.name === model.name || (other?.name !== model.name && (!other || distance(one) < distance(other)))) {
      nearest.set(one.seconds, one);
    }
  }
  const lengths = [...nearest.keys()].sort((one, other) => one - other);
  list.replaceChildren(
    ...lengths.map((seconds) => {
      const { name, title } = nearest.get(seconds);
      const about = { type: "button", className: "length", "data-model": name, "aria-pressed": String(seconds === model.seconds) };
      return make("button", about, says("seconds", { seconds }), make("span", {}, title));
    }),
  );
  chips("#pop-length .only").hidden = lengths.length > 1;
}

function place(popover, chip) {
  const box = chip.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = popover;
  const left = Math.max(8, Math.min(box.left, innerWidth - width - 8));
  const below = box.bottom + 6;
  const top = below + height <= innerHeight - 8 ? below : Math.max(8, box.top - height - 6);
  popover.style.left = `${left}px`;
  popover.style.top = `${top}px`;
}

// Whether a chip opens its popover. Gradio builds its components in no particular order: one may be there without the other.
function connectChip(chip) {
  const popover = chips(`#pop-${chip.dataset.chip}`);
  if (!popover || chip.popoverTargetElement) return Boolean(popover);
  popover.popover = "auto";
  popover.setAttribute("role", "dialog");
  popover.setAttribute("aria-label", chip.querySelector("span").textContent);
  chip.popoverTargetElement = popover;
  popover.addEventListener("toggle", (event) => {
    const open = event.newState === "open";
    chip.setAttribute("aria-expanded", String(open));
    if (open) place(popover, chip);
  });
  new ResizeObserver(() => popover.matches(":popover-open") && place(popover, chip)).observe(popover);
  popover.addEventListener("click", (event) => {
    const length = event.target.closest("[data-model]");
    if (length) chips(`#model input[value="${CSS.escape(length.dataset.model)}"]`)?.click();
    if (event.target.closest("[data-preset], [data-model]")) popover.hidePopover();
  });
  return true;
}
// Whoever writes a seed wants it to be used.
document.addEventListener("input", (event) => {
  if (!event.target.matches?.("#pop-seed textarea, #pop-seed input:not([type=radio])")) return;
  if (chips("#seed-mode input[value=random]")?.checked) chips("#seed-mode input[value=fixed]").click();
});
addEventListener("resize", () => document.querySelectorAll("#composer .pop:popover-open").forEach((open) => open.hidePopover()));
