// Cards of LoRA files: what was clicked or moved goes to the server. `element` and `trigger` are Gradio's.
let waiting = null;
let changed = {};
const plain = (text) => /^-?\d*\.?\d+$/.test(text.trim());
const send = () => {
  clearTimeout(waiting);
  // All that was changed since the cards were drawn, so that none of two quick changes is lost.
  if (Object.keys(changed).length) trigger("strength", { changed });
};

element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-act]");
  if (!button) return;
  const id = button.closest("[data-id]").dataset.id;
  if (button.dataset.act === "word") trigger("word", { id, number: Number(button.dataset.number) });
  if (button.dataset.act === "take") trigger("take", { id, changed });
  if (button.dataset.act === "leave") trigger("leave", { id, changed });
});

element.addEventListener("input", (event) => {
  const input = event.target.closest("[data-tower]");
  if (!input) return;
  const row = input.closest(".strength");
  const [slider, field] = [row.querySelector("[type=range]"), row.querySelector("[type=text]")];
  if (input === slider) field.value = slider.value;
  else {
    slider.disabled = !plain(field.value);
    if (!slider.disabled) {
      const value = Number(field.value);
      slider.min = Math.min(slider.min, value);
      slider.max = Math.max(slider.max, value);
      slider.value = value;
    }
  }
  const id = row.closest("[data-id]").dataset.id;
  changed[id] = { ...changed[id], [input.dataset.tower]: field.value };
  clearTimeout(waiting);
  waiting = setTimeout(send, 250);
});

// Whoever leaves a field has decided.
element.addEventListener("change", (event) => {
  if (event.target.closest("[data-tower]")) send();
});

// Gradio changes the old fields into the new ones, so that a strength would stay in another card.
watch("value", () => {
  changed = {};
  for (const field of element.querySelectorAll(".strength input")) field.value = field.defaultValue;
});

// Only a page that is looked at asks for news.
const place = element.closest("[role=tabpanel]") ?? element;
new IntersectionObserver((entries) => {
  trigger(entries[entries.length - 1].isIntersecting ? "shown" : "hidden");
}).observe(place);
