// Buttons of the models, and copying commands. `element` and `trigger` are Gradio's.
element.addEventListener("click", async (event) => {
  const target = event.target.closest("button[data-act]");
  if (!target) return;
  if (target.dataset.act === "download") trigger("download", { name: target.dataset.name });
  if (target.dataset.act === "stop") trigger("stop", {});
  if (target.dataset.act === "order") trigger("order", { name: target.dataset.name, order: target.dataset.order });
  if (target.dataset.act === "copy") {
    const code = target.parentElement.querySelector("code");
    getSelection().selectAllChildren(code);
    try {
      await navigator.clipboard.writeText(code.textContent);
      target.textContent = target.dataset.copied;
    } catch {
      // Browsers allow clipboard access only over https; the command is at least selected.
      target.textContent = target.dataset.byHand;
    }
  }
});

// The panels are drawn anew whenever something changes: the button that had the focus gets it back.
let focused = null;
element.addEventListener("focusin", ({ target }) => {
  focused = target.closest("button[aria-label]")?.getAttribute("aria-label");
});
new MutationObserver(() => {
  if (!focused || document.activeElement !== document.body) return;
  element.querySelector(`button[aria-label="${CSS.escape(focused)}"]`)?.focus();
}).observe(element, { childList: true, subtree: true });

window.ovi.whileShown(element, (visible) => trigger(visible ? "shown" : "hidden"));
