// In the page's head, before Gradio's scripts. Gradio's sign that the page is loading (6.31) counts the seconds on every
// frame, also after it is gone: a page where nothing moves would take a twentieth of a core for ever. Its script keeps the
// function that it asks for frames; once the page is there, that function gives it none. No other sign of it is shown.
const SIGN = "/statustracker-";
const nextFrame = window.requestAnimationFrame;
let loading = true;
window.requestAnimationFrame = (act) => (loading || !new Error().stack.includes(SIGN) ? nextFrame.call(window, act) : 0);
window.ovi.endLoading = () => {
  loading = false;
  // Whoever asks by name.
  window.requestAnimationFrame = nextFrame;
};
