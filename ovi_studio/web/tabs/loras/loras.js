// Cards of LoRA files: sends clicks and changed strengths to the server. `element` and `trigger` are Gradio's.
let waiting = null;
let changed = {};
const plain = (text) => /^-?\d*\.?\d+$/.test(text.trim());
const send = () => {
  clearTimeout(waiting);
  // All changes since the cards were drawn, so that the first of two quick changes is not lost.
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

// Leaving a field commits its value.
element.addEventListener("change", (event) => {
  if (event.target.closest("[data-tower]")) send();
});

// Gradio reuses the old fields for new cards, so that a strength would stay in another file's card.
watch("value", () => {
  changed = {};
  for (const field of element.querySelectorAll(".strength input")) field.value = field.defaultValue;
});

window.ovi.whileShown(element, (visible) => trigger(visible ? "shown" : "hidden"));
