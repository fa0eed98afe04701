// The wall: what was clicked goes to the server by its id. `element` and `trigger` are Gradio's.
let focused = null;
const remember = (target) => {
  focused = { act: target.dataset.act, id: target.dataset.id };
};

element.addEventListener("click", (event) => {
  const target = event.target.closest("button[data-act]");
  if (!target) return;
  remember(target);
  if (target.dataset.act === "open") trigger("open", { id: target.dataset.id });
  if (target.dataset.act === "mark") {
    trigger("mark", { id: target.dataset.id, favourite: target.getAttribute("aria-pressed") !== "true" });
  }
});

element.addEventListener("change", (event) => {
  const target = event.target;
  if (target.dataset.act !== "pick") return;
  remember(target);
  const ticked = [...element.querySelectorAll("input[data-act=pick]:checked")].map((box) => box.dataset.id);
  trigger("pick", { ids: ticked });
});

// Gradio changes the old cards into the new ones, so that a tick would stay where another clip is now; and who works
// with the keyboard stays where they were.
watch("value", () => {
  for (const box of element.querySelectorAll("input[data-act=pick]")) box.checked = box.defaultChecked;
  const lost = !document.activeElement || document.activeElement === document.body;
  if (!focused || !lost) return;
  for (const candidate of element.querySelectorAll(`[data-act="${focused.act}"]`)) {
    if (candidate.dataset.id === focused.id) candidate.focus({ preventScroll: true });
  }
});

// Only a page that is looked at asks for news.
const place = element.closest("[role=tabpanel]") ?? element;
new IntersectionObserver((entries) => {
  trigger(entries[entries.length - 1].isIntersecting ? "shown" : "hidden");
}).observe(place);
