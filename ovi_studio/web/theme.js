// In the page's head, so that the first paint has the right colours. The choice is remembered by the browser; without
// one the page follows the system. `html.dark` sets the theme's variables, and some of Gradio's rules need `body.dark`.
// `MODES`, the choices and their names, comes with this script.
const KEY = "ovi-theme";
const root = document.documentElement;
const system = matchMedia("(prefers-color-scheme: dark)");

function chosen() {
  const mode = window.ovi.kept(KEY);
  return mode in MODES ? mode : "system";
}

function apply(mode = chosen()) {
  const dark = mode === "dark" || (mode === "system" && system.matches);
  root.classList.toggle("dark", dark);
  root.style.colorScheme = dark ? "dark" : "light";
  root.dataset.theme = mode;
  document.body?.classList.toggle("dark", dark);
  const button = document.querySelector("#theme");
  button?.setAttribute("aria-label", MODES[mode]);
  button?.setAttribute("title", MODES[mode]);
}

function next() {
  const modes = Object.keys(MODES);
  const mode = modes[(modes.indexOf(root.dataset.theme) + 1) % modes.length];
  window.ovi.keep(KEY, mode);
  apply(mode);
}

apply();
system.addEventListener("change", () => apply());
addEventListener("storage", () => apply());
// The button comes long after this script.
document.addEventListener("ovi:theme", () => apply(root.dataset.theme));
document.addEventListener("click", (event) => {
  if (event.target.closest?.("#theme")) next();
});
document.addEventListener("DOMContentLoaded", () => {
  apply();
  // Gradio sets this class as well, by the system's mode alone.
  new MutationObserver(() => {
    if (document.body.classList.contains("dark") !== root.classList.contains("dark")) apply(root.dataset.theme);
  }).observe(document.body, { attributeFilter: ["class"] });
});
