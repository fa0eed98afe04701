// Patterns are offered and explained where they are typed: wildcards after two underscores, groups after a brace.
// `props.wildcards` are {name, lines, count}.
const box = make("div", { id: "pattern-help", role: "listbox", "aria-label": props.words.wildcards, hidden: true });
(element.closest(".contain") ?? document.body).append(box);
const WRITTEN = "#prompt textarea, #sound textarea, #cues textarea, #cues input";
let offered = null;

function help(field) {
  const before = field.value.slice(0, field.selectionStart);
  const wildcard = /(?<![\\_])__([A-Za-z0-9_-]*)$/.exec(before);
  const brace = before.lastIndexOf("{");
  const inGroup = brace >= 0 && before[brace - 1] !== "\\" && !/[{}]/.test(before.slice(brace + 1));
  if (wildcard) return offer(field, wildcard[1].toLowerCase());
  if (inGroup) return explain(field, before.slice(brace + 1));
  return close();
}

function offer(field, typed) {
  const fitting = props.wildcards.filter(({ name }) => name.toLowerCase().startsWith(typed));
  if (!fitting.length) return close();
  offered = { field, typed };
  box.setAttribute("role", "listbox");
  box.replaceChildren(
    ...fitting.map(({ name, lines, count }, index) => {
      const shown = count > lines.length ? [...lines, "…"] : lines;
      const examples = window.ovi.filled(props.words.clips_of_wildcard, { count, lines: shown.join(", ") });
      const about = { id: `wildcard-${index}`, role: "option", "aria-selected": String(index === 0), "data-name": name };
      const option = make("div", about, make("b", {}, `__${name}__`), make("span", {}, examples));
      option.addEventListener("pointerdown", (event) => {
        event.preventDefault();
        take(name);
      });
      return option;
    }),
  );
  open(field);
}

function explain(field, inside) {
  offered = null;
  box.setAttribute("role", "note");
  const options = inside.split("|").filter((option) => option.trim()).length;
  const text = options > 1 ? props.words.group_goes_on : props.words.group;
  box.replaceChildren(make("p", {}, text));
  open(field);
}

function open(field) {
  box.hidden = false;
  const around = field.getBoundingClientRect();
  box.style.width = `${Math.min(around.width, innerWidth - 16)}px`;
  box.style.left = `${Math.max(8, around.left)}px`;
  const below = around.bottom + 4;
  box.style.top = `${below + box.offsetHeight < innerHeight ? below : Math.max(8, around.top - box.offsetHeight - 4)}px`;
  if (offered) {
    field.setAttribute("aria-controls", box.id);
    field.setAttribute("aria-activedescendant", "wildcard-0");
  }
}

function close() {
  offered?.field.removeAttribute("aria-activedescendant");
  offered = null;
  box.hidden = true;
}

function take(name) {
  const { field, typed } = offered;
  const at = field.selectionStart;
  const rest = field.value.slice(at).replace(/^[A-Za-z0-9_-]*?__/, "");
  const head = `${field.value.slice(0, at - typed.length)}${name}__`;
  field.value = head + rest;
  field.setSelectionRange(head.length, head.length);
  field.dispatchEvent(new Event("input", { bubbles: true }));
  close();
}

document.addEventListener("input", (event) => event.target.matches?.(WRITTEN) && help(event.target));
document.addEventListener("focusout", (event) => event.target.matches?.(WRITTEN) && close());
addEventListener("scroll", close, true);
document.addEventListener(
  "keydown",
  (event) => {
    if (box.hidden) return;
    if (event.key === "Escape") {
      event.stopPropagation();
      return close();
    }
    if (!offered || event.target !== offered.field) return;
    const options = [...box.children];
    const index = options.findIndex((option) => option.getAttribute("aria-selected") === "true");
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      const next = options[(index + step + options.length) % options.length];
      options.forEach((option) => option.setAttribute("aria-selected", String(option === next)));
      next.scrollIntoView({ block: "nearest" });
      offered.field.setAttribute("aria-activedescendant", next.id);
    } else if (event.key === "Enter" || event.key === "Tab") {
      take(options[index].dataset.name);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  },
  true,
);
