// Files dropped anywhere on the page, or chosen after "ovi:add-files": an overlay says what will happen, each file is
// sent to `studio/drop`, and a report tells what became of it. `element`, `props`, `trigger` and `watch` are Gradio's.
const words = props.words;
const { make, filled } = window.ovi;
const inLibrary = () => Boolean(document.querySelector("#library")?.offsetParent);
const rules = make("dl");
const overlay = make("div", { id: "drop-overlay", hidden: true }, make("div", {}, make("h2", { textContent: words.drop }), rules));
const list = make("ul");
const report = make("section", { id: "drop-report", hidden: true, role: "status", "aria-label": words.added }, list);
const chooser = make("input", { type: "file", multiple: true, accept: props.accept, hidden: true, id: "drop-chooser" });
// Only there do rules for certain widths apply (Gradio 6.31).
(element.closest(".contain") ?? document.body).append(overlay, report, chooser);

// The overlay

function showOverlay() {
  const here = inLibrary();
  rules.replaceChildren(
    ...words.kinds.map(([kind, elsewhere, library]) =>
      make("div", {}, make("dt", { textContent: kind }), make("dd", { textContent: (here && library) || elsewhere })),
    ),
  );
  overlay.hidden = false;
}

const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
// A field that takes files keeps what is dropped on it.
const hasOwnPlace = (target) => target.closest?.("[aria-dropeffect], [data-own-drop]");
let depth = 0;

addEventListener("dragenter", (event) => {
  if (!hasFiles(event)) return;
  depth += 1;
  if (!document.querySelector("dialog:modal")) showOverlay();
});
addEventListener("dragleave", (event) => {
  if (hasFiles(event) && (depth = Math.max(0, depth - 1)) === 0) overlay.hidden = true;
});
addEventListener("dragover", (event) => {
  if (hasFiles(event)) event.preventDefault();
});
addEventListener(
  "drop",
  (event) => {
    depth = 0;
    overlay.hidden = true;
    if (!hasFiles(event) || hasOwnPlace(event.target)) return;
    event.preventDefault();
    event.stopPropagation();
    send([...event.dataTransfer.files]);
  },
  true,
);

document.addEventListener("ovi:add-files", () => chooser.click());
chooser.addEventListener("change", () => {
  send([...chooser.files]);
  chooser.value = "";
});

// Sending

async function send(files) {
  if (!files.length) return;
  const library = inLibrary();
  clearTimeout(closing);
  list.replaceChildren();
  report.hidden = false;
  const tickets = [];
  for (const file of files) {
    const line = row(file.name, "sending");
    try {
      tickets.push(await upload(file, (part) => (line.lastChild.textContent = `${Math.floor(100 * part)} %`)));
      line.remove();
    } catch (error) {
      line.replaceWith(row(error.message, "refused"));
    }
  }
  if (tickets.length) trigger("taken", { tickets, library });
}

// Not `fetch`, which does not tell how much has been sent.
function upload(file, progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `studio/drop?name=${encodeURIComponent(file.name)}`);
    request.responseType = "json";
    request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    request.onload = () => {
      if (request.response?.ticket) resolve(request.response.ticket);
      else reject(new Error(request.response?.detail ?? filled(words.refused, file)));
    };
    request.onerror = () => reject(new Error(filled(words.notSent, file)));
    request.send(file);
  });
}

// Reporting

function row(text, kind, ...buttons) {
  const made = make("li", { className: kind }, make("p", { textContent: text }), ...buttons);
  if (kind === "sending") made.append(make("span", { className: "part" }));
  list.append(made);
  return made;
}

function action(text, act) {
  const made = make("button", { type: "button", textContent: text });
  made.addEventListener("click", act);
  return made;
}

function question({ sentence, ticket }) {
  const answer = (event, detail) => () => {
    made.remove();
    trigger(event, { tickets: [ticket], ...detail });
    settle();
  };
  const made = row(
    sentence,
    "question",
    action(words.replace, answer("taken", { library: inLibrary(), replace: true })),
    action(words.keep, answer("left", {})),
  );
}

const dismiss = action("×", () => (report.hidden = true));
dismiss.className = "dismiss";
dismiss.setAttribute("aria-label", words.dismiss);
report.append(dismiss);

// What needs no answer goes by itself; what was refused stays until it was read.
let closing = 0;
function settle() {
  clearTimeout(closing);
  if (!list.children.length) report.hidden = true;
  else if (!list.querySelector(".refused, .question")) closing = setTimeout(() => (report.hidden = true), 8000);
}

watch("value", () => {
  for (const file of props.value?.files ?? []) {
    if (file.kind === "question") question(file);
    else row(file.sentence, file.kind);
  }
  report.hidden = !list.children.length;
  settle();
});
