// The wall: sends what was clicked to the server, by id. `element` and `trigger` are Gradio's.
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

// Gradio reuses the old cards for new clips, so that a tick would stay on a card that now shows another clip. Focus is
// restored for keyboard users.
watch("value", () => {
  for (const box of element.querySelectorAll("input[data-act=pick]")) box.checked = box.defaultChecked;
  const lost = !document.activeElement || document.activeElement === document.body;
  if (!focused || !lost) return;
  for (const candidate of element.querySelectorAll(`[data-act="${focused.act}"]`)) {
    if (candidate.dataset.id === focused.id) candidate.focus({ preventScroll: true });
  }
});

// Only a visible page polls for changes.
const place = element.closest("[role=tabpanel]") ?? element;
new IntersectionObserver((entries) => {
  trigger(entries[entries.length - 1].isIntersecting ? "shown" : "hidden");
}).observe(place);
