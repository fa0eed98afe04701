// The difference between a prompt and the helper's suggestion. What models and people write is only ever set as text.
const words = props.words;
const part = (selector) => element.querySelector(selector);
const button = (act) => part(`[data-act=${act}]`);
const TAGS = { kept: "span", removed: "del", added: "ins" };

for (const act of ["ask", "accept", "discard"]) button(act).textContent = words[act];
part(".ask span").textContent = words.place;
part("h3").textContent = words.offer;

function waits(asking) {
  button("ask").disabled = asking;
  button("ask").textContent = asking ? words.asking : words.ask;
  element.toggleAttribute("aria-busy", asking);
}

const { make } = window.ovi;
const piece = ([change, text]) => make(TAGS[change] ?? "span", {}, text);

function show() {
  const value = props.value ?? {};
  waits(false);
  part(".problem").hidden = !value.problem;
  part(".problem").textContent = value.problem ?? "";
  part(".offer").hidden = !value.changes;
  part(".difference").replaceChildren(...(value.changes ?? []).map(piece));
  part("ul").replaceChildren(...(value.warnings ?? []).map((text) => make("li", {}, text)));
}

element.addEventListener("click", (event) => {
  const act = event.target.closest("[data-act]")?.dataset.act;
  if (!act) return;
  if (act === "ask") waits(true);
  trigger(act);
  if (act !== "ask") document.querySelector("#prompt textarea")?.focus();
});
watch("value", () => {
  show();
  // The main button stands before the lower end of the form.
  if (props.value?.changes) part(".offer").scrollIntoView({ block: "center" });
});
show();
