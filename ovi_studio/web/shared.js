// Shared by the scripts of the page, and in its head, so that all of them find it.
window.ovi = {
  // An element with its children. What it has no property for becomes an attribute, such as "aria-label".
  make: (tag, properties = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name in made) made[name] = value;
      else made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  },
  // What this browser keeps, or with `sessionStorage` this window; null for nothing. A browser may forbid both, or have no
  // room: then the page works as on the first visit.
  kept: (name, place = "localStorage") => {
    try {
      return window[place].getItem(name);
    } catch {
      return null;
    }
  },
  // The same for a value that was kept as JSON.
  keptValue: (name) => {
    try {
      return JSON.parse(window.ovi.kept(name));
    } catch {
      return null;
    }
  },
  keep: (name, value, place = "localStorage") => {
    try {
      window[place].setItem(name, value);
    } catch {
      // As above.
    }
  },
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
