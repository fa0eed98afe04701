// Cards and slots: what was chosen or typed goes to the server. `element` and `trigger` are Gradio's.
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
    // The text of the button, so that nothing that a person wrote is ever taken for code.
    field.value = target.textContent;
    field.dispatchEvent(new Event("input", { bubbles: true }));
  }
});

element.addEventListener("input", (event) => {
  if (!event.target.matches("[data-slot]")) return;
  clearTimeout(waiting);
  waiting = setTimeout(() => trigger("fill", filled()), 150);
});

// Gradio changes the old fields into the new ones, so that a text would stay in another template's slot.
watch("value", () => {
  for (const field of element.querySelectorAll("[data-slot]")) field.value = field.defaultValue;
});

// Only a page that is looked at asks for news.
const place = element.closest("[role=tabpanel]") ?? element;
new IntersectionObserver((entries) => {
  if (entries[entries.length - 1].isIntersecting) trigger("shown");
}).observe(place);
