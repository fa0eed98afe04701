// Shared by the scripts of the page, and in its head, so that all of them find it.
window.ovi = {
  // A text with its `{names}` replaced by values.
  filled: (text, values) => text.replace(/\{(\w+)\}/g, (gap, name) => values[name] ?? gap),
  // Calls `act` with the tab of an element, so that only a visible one asks for changes: true for shown, false for
  // hidden; and once more after the server was away, since the call may have been lost with it.
  whileShown: (element, act) => {
    let visible = false;
    new IntersectionObserver((entries) => {
      visible = entries[entries.length - 1].isIntersecting;
      act(visible);
    }).observe(element.closest("[role=tabpanel]") ?? element);
    document.addEventListener("ovi:again", () => act(visible));
  },
  // Whether a key that is typed there is text, so that it is no shortcut.
  isText: (node) =>
    Boolean(
      node.closest?.(
        "textarea, select, [contenteditable=true], input:not([type=checkbox], [type=radio], [type=range], [type=button])",
      ),
    ),
};
