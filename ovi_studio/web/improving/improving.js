// The dialog for larger and smoother copies, opened by "ovi:improve" for clips or jobs. `element`, `props`, `trigger` and
// `watch` are Gradio's.
const words = props.words;
const { make } = window.ovi;
let given = {};

const counted = (one, many, count) => (count === 1 ? one : many.replace("{count}", count));
const option = (textContent, value) => make("option", { textContent, value });

const title = make("h2", { id: "improving-title", textContent: words.TITLE });
const about = make("p");
const size = make("select", { id: "improving-size" });
const hint = make("p", { className: "hint" });
const rates = make("div", { className: "rates" });
const problem = make("p", { className: "problem", role: "alert" });
const queue = make("button", { type: "submit", className: "main" });
const cancel = make("button", { type: "button", textContent: words.CANCEL });
const form = make(
  "form",
  { method: "dialog" },
  title,
  about,
  make("label", { htmlFor: size.id, textContent: words.SIZE }),
  size,
  hint,
  make("fieldset", {}, make("legend", { textContent: words.RATE }), rates),
  problem,
  make("div", { className: "acts" }, queue, cancel),
);
const dialog = make("dialog", { id: "improving", "aria-labelledby": title.id }, form);
// Only there do rules for certain widths apply (Gradio 6.31).
(element.closest(".contain") ?? document.body).append(dialog);

for (const [value, text] of [["", words.SAME_RATE], ...words.RATES.map((rate) => [rate, rate])]) {
  const choice = make("input", { type: "radio", name: "improving-rate", value, checked: !value });
  rates.append(make("label", {}, choice, make("span", { textContent: text })));
}

const rate = () => Number(form.querySelector("input:checked")?.value) || null;
const count = () => (given.clips ?? given.jobs ?? []).length;

function showChoice() {
  queue.disabled = !size.value && !rate();
  problem.hidden = !problem.textContent;
}

function showCount() {
  about.textContent = counted(words.ABOUT_ONE, words.ABOUT_MANY, count());
  queue.textContent = counted(words.QUEUE_ONE, words.QUEUE_MANY, count());
}

function open(detail) {
  given = detail;
  if (!count()) return;
  showCount();
  problem.textContent = "";
  size.replaceChildren(option(words.SAME_SIZE, ""));
  hint.hidden = true;
  showChoice();
  dialog.showModal();
  trigger("opened");
}

function answer() {
  const { upscalers, hint: missing, problem: reason, left } = props.value ?? {};
  if (upscalers) {
    size.replaceChildren(option(words.SAME_SIZE, ""), ...upscalers.map((name) => option(name, name)));
    size.disabled = !upscalers.length;
    hint.textContent = missing;
    hint.hidden = !missing;
  }
  if (left && !left.length) dialog.close();
  // Those that were not queued may be with another choice.
  if (left) given = given.clips ? { clips: left } : { jobs: left };
  problem.textContent = reason ?? "";
  showCount();
  showChoice();
}

form.addEventListener("input", () => {
  problem.textContent = "";
  showChoice();
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  queue.disabled = true;
  queue.textContent = words.QUEUEING;
  trigger("queue", { ...given, upscaler: size.value, fps: rate() });
});
cancel.addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});
document.addEventListener("ovi:improve", (event) => open(event.detail));
watch("value", answer);
