// In the page's head, before Gradio's scripts. Gradio's sign that the page is loading (6.31) counts the seconds on every
// frame, also after it is gone: a page where nothing moves would take a tenth of a core for ever. All its signs keep the
// function that they ask for frames, which nothing else does: once the page is there, and none is shown any more, that
// function does nothing.
const nextFrame = window.requestAnimationFrame;
let loading = true;
window.requestAnimationFrame = (act) => (loading ? nextFrame.call(window, act) : 0);
window.ovi.endLoading = () => {
  loading = false;
  window.requestAnimationFrame = nextFrame;
};
