// Opens the dialog of all shortcuts, and goes from tab to tab. `element` is Gradio's.
const dialog = element.querySelector("#shortcuts");
function go(step) {
  const tabs = [...document.querySelectorAll("#tabs [role=tab]")];
  const shown = tabs.findIndex((tab) => tab.getAttribute("aria-selected") === "true");
  const next = tabs[(shown + step + tabs.length) % tabs.length];
  next?.click();
  next?.focus();
}

const keys = { "?": () => dialog.showModal(), "[": () => go(-1), "]": () => go(1) };

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.defaultPrevented || window.ovi.isText(event.target)) return;
  if (!keys[event.key] || document.querySelector("dialog:modal")) return;
  event.preventDefault();
  keys[event.key]();
});
document.addEventListener("click", (event) => {
  if (event.target.closest?.("#help")) dialog.showModal();
});
dialog.addEventListener("click", (event) => {
  // A click beside the box hits the dialog itself.
  if (event.target === dialog || event.target.closest(".close")) dialog.close();
});
