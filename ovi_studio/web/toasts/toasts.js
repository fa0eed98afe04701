// Messages in a corner of the page. `props.value` is {text, seconds, failed, offer}; an offer's Undo is sent to the
// server, a script's own ("ovi:toast", see the package's docstring) is called here.
const { make, isText } = window.ovi;
const region = make("div", { id: "toasts", role: "status" });
const LONGEST = 4;

// A modal dialog makes everything outside of itself inert; Gradio's rules for widths end at its own container.
const place = () => (document.querySelector("dialog:modal") ?? document.querySelector(".contain") ?? document.body).append(region);

function show({ text, seconds = 8, failed = false, undo = null }) {
  place();
  const toast = make("div", { className: failed ? "toast failed" : "toast" }, make("p", {}, text));
  if (failed) toast.role = "alert";
  if (undo) toast.append(button(props.words.undo, "undo", () => close(toast, undo)));
  toast.append(button("×", "dismiss", () => close(toast), props.words.dismiss));
  region.append(toast);
  while (region.children.length > LONGEST) region.firstChild.remove();
  expire(toast, seconds * 1000);
}

function button(text, name, act, label = text) {
  const made = make("button", { type: "button", className: name, "aria-label": label }, text);
  made.addEventListener("click", act);
  return made;
}

function close(toast, then = null) {
  toast.remove();
  then?.();
}

// Time stands still while somebody reads a toast or has its button in focus.
function expire(toast, left) {
  let since = performance.now();
  let timer = setTimeout(() => toast.remove(), left);
  const stop = () => {
    clearTimeout(timer);
    left = Math.max(2000, left - (performance.now() - since));
  };
  const go = () => {
    clearTimeout(timer);
    since = performance.now();
    timer = setTimeout(() => toast.remove(), left);
  };
  for (const name of ["pointerenter", "focusin"]) toast.addEventListener(name, stop);
  for (const name of ["pointerleave", "focusout"]) toast.addEventListener(name, go);
}

document.addEventListener("keydown", (event) => {
  if (event.key.toLowerCase() !== "z" || event.shiftKey || event.altKey || !(event.ctrlKey || event.metaKey)) return;
  const offers = region.querySelectorAll(".undo");
  if (isText(event.target) || !offers.length) return;
  event.preventDefault();
  offers[offers.length - 1].click();
});
document.addEventListener("ovi:toast", (event) => show(event.detail));
// What was said in a dialog is not closed with it.
document.addEventListener("close", (event) => event.target.contains(region) && place(), true);

watch("value", () => {
  const { text, offer, ...rest } = props.value ?? {};
  if (text) show({ text, ...rest, undo: offer ? () => trigger("undo", { offer }) : null });
});
