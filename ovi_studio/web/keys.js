// Shared by the scripts of the page, and in its head, so that all of them find it.
window.ovi = {
  // A text with its `{names}` replaced by values.
  filled: (text, values) => text.replace(/\{(\w+)\}/g, (gap, name) => values[name] ?? gap),
  // Whether a key that is typed there is text, so that it is no shortcut.
  isText: (node) =>
    Boolean(
      node.closest?.(
        "textarea, select, [contenteditable=true], input:not([type=checkbox], [type=radio], [type=range], [type=button])",
      ),
    ),
};
