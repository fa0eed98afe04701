// The dialog with a helper's suggestions for the prompts of the form's table. What models and people write is only ever
// set as text. One prompt is asked about at a time, so that closing the dialog ends the asking.
const words = props.words;
const button = element.querySelector("[data-act=open]");
const trouble = element.querySelector(".problem");
const { make, filled } = window.ovi;
button.textContent = words.open;
button.hidden = true;
let rows = [];
let asking = null;
let stopped = false;

const act = (text, name, run) => make("button", { type: "button", textContent: text, className: name, onclick: run });

const body = document.createElement("tbody");
const progress = make("p", { className: "progress", role: "status" });
const problem = make("p", { className: "problem", role: "alert" });
const stop = act(words.stop, "stop", () => {
  stopped = !stopped;
  next();
});
const apply = act(words.apply, "main", () => trigger("apply", { prompts: Object.fromEntries(used().map((row) => [row.line, row.text()])) }));
const heading = make("h2", { id: "table-suggestions-title", textContent: words.title });
const head = make("tr", {}, make("th", { textContent: words.prompt, scope: "col" }), make("th", { textContent: words.suggestion, scope: "col" }));
const dialog = make(
  "dialog",
  { id: "table-suggestions-dialog", "aria-labelledby": heading.id },
  make("div", { className: "head" }, heading, make("p", { textContent: words.place })),
  make("div", { className: "rows", tabIndex: 0, role: "region", "aria-label": words.title }, make("table", {}, make("thead", {}, head), body)),
  make(
    "div",
    { className: "foot" },
    problem,
    progress,
    make("div", { className: "acts" }, act(words.useAll, "", () => all(true)), act(words.discardAll, "", () => all(false)), stop),
    make("div", { className: "acts" }, apply, act(words.cancel, "", () => dialog.close())),
  ),
);
// Only there do rules for certain widths apply (Gradio 6.31).
(element.closest(".contain") ?? document.body).append(dialog);

const used = () => rows.filter((row) => row.use);

// A row: what was typed, and what is suggested, with its buttons.
function addRow({ line, before, shown }) {
  const cell = make("td", { className: "suggested" });
  const number = make("span", { className: "line", textContent: filled(words.line, { line }) });
  const row = { line, before, cell, state: "waiting", use: false, edited: null };
  row.text = () => (row.edited ? row.edited.value : row.after);
  body.append(make("tr", {}, make("td", {}, number, make("p", { textContent: shown })), cell));
  draw(row);
  return row;
}

const TAGS = { kept: "span", removed: "del", added: "ins" };
const piece = ([change, textContent]) => make(TAGS[change] ?? "span", { textContent });

function draw(row) {
  row.cell.classList.toggle("used", row.use);
  if (row.state === "waiting" || row.state === "asking") {
    row.cell.replaceChildren(make("p", { className: "hint", textContent: words[row.state] }));
  } else if (row.state === "problem") {
    row.cell.replaceChildren(make("p", { className: "problem", textContent: row.problem }), act(words.again, "", () => again(row)));
  } else {
    const shown = row.edited ?? make("p", { className: "difference" }, ...row.changes.map(piece));
    const warnings = make("ul", {}, ...row.warnings.map((textContent) => make("li", { textContent })));
    const acts = [toggle(row, words.use, true), toggle(row, words.discard, false)];
    if (!row.edited) acts.push(act(words.edit, "", () => edit(row)));
    row.cell.replaceChildren(shown, ...(row.warnings.length ? [warnings] : []), make("div", { className: "acts" }, ...acts));
  }
  count();
}

function toggle(row, text, use) {
  const made = act(text, "choice", () => decide(row, use));
  made.setAttribute("aria-pressed", String(row.decided === use));
  return made;
}

function decide(row, use) {
  row.use = use;
  row.decided = use;
  const held = row.cell.contains(document.activeElement) ? document.activeElement.textContent : null;
  draw(row);
  if (held) [...row.cell.querySelectorAll("button")].find((one) => one.textContent === held)?.focus();
}

// What is edited is meant to be used.
function edit(row) {
  row.edited = make("textarea", { value: row.after, maxLength: props.longest, rows: 6 });
  row.edited.setAttribute("aria-label", filled(words.edited, row));
  decide(row, true);
  row.edited.focus();
}

const all = (use) => rows.filter((row) => row.state === "answered").forEach((row) => decide(row, use));

function again(row) {
  row.state = "waiting";
  draw(row);
  stopped = false;
  next();
}

function next() {
  stop.textContent = stopped ? words.goOn : words.stop;
  if (!asking && !stopped && dialog.open) {
    asking = rows.find((row) => row.state === "waiting") ?? null;
    if (asking) {
      asking.state = "asking";
      draw(asking);
      trigger("asked", { line: asking.line, before: asking.before });
    }
  }
  count();
}

function count() {
  const done = rows.filter((row) => !["waiting", "asking"].includes(row.state)).length;
  progress.textContent = filled(words.progress, { done, count: rows.length, used: used().length });
  apply.disabled = !used().length;
  stop.hidden = done === rows.length;
}

function open(found) {
  body.replaceChildren();
  rows = [];
  rows = found.map(addRow);
  stopped = false;
  asking = null;
  problem.textContent = "";
  dialog.showModal();
  next();
}

function answered(answer) {
  const row = rows.find((one) => one === asking && one.line === answer.line);
  // Of a dialog that was closed.
  if (!row) return;
  asking = null;
  Object.assign(row, answer, { state: answer.problem ? "problem" : "answered" });
  draw(row);
  next();
}

button.addEventListener("click", () => trigger("opened"));
dialog.addEventListener("close", () => {
  rows = [];
  asking = null;
});
watch("value", () => {
  const value = props.value ?? {};
  if ("table" in value) button.hidden = !value.table;
  const reason = value.problem ?? (value.rows?.length === 0 ? words.noTable : "");
  (dialog.open ? problem : trouble).textContent = reason;
  trouble.hidden = dialog.open || !reason;
  if (value.rows?.length) open(value.rows);
  if (value.answer) answered(value.answer);
  if (value.applied) dialog.close();
});
