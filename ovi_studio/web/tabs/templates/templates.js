// Cards and slots: sends what was chosen or typed to the server. `element` and `trigger` are Gradio's.
let waiting = null;
const form = () => element.querySelector(".slots");
const filled = () => {
  const values = {};
  for (const field of element.querySelectorAll("[data-slot]")) values[field.dataset.slot] = field.value;
  return { id: form().dataset.id, values };
};

element.addEventListener("click", (event) => {
  const target = event.target.closest("button");
  if (!target) return;
  if (target.dataset.act === "choose") trigger("choose", { id: target.dataset.id });
  if (target.dataset.act === "use") trigger("use", filled());
  if (target.dataset.act === "suggest") {
    const field = document.getElementById(target.dataset.field);
    // Text content, so that nothing a user wrote is ever treated as code.
    field.value = target.textContent;
    field.dispatchEvent(new Event("input", { bubbles: true }));
  }
});

element.addEventListener("input", (event) => {
  if (!event.target.matches("[data-slot]")) return;
  clearTimeout(waiting);
  waiting = setTimeout(() => trigger("fill", filled()), 150);
});

// Gradio reuses the old fields for new slots, so that a text would stay in another template's slot.
watch("value", () => {
  for (const field of element.querySelectorAll("[data-slot]")) field.value = field.defaultValue;
});

window.ovi.whileShown(element, (visible) => visible && trigger("shown"));
