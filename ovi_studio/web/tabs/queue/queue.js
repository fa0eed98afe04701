// The table of the queue. `props.value` is {rows: [{id, queued, html}], place, back, on, empty}; every `html` is
// escaped on the server. Only changed rows are replaced, so that focus, dragging and scrolling are not interrupted.
const shown = new Map();
let dragged = null;
let pending = false;

const list = () => element.querySelector(".jobs");
const act = (action, more) => trigger("act", { action, ...more });

function render() {
  if (dragged) {
    pending = true;
    return;
  }
  const { rows = [], place = "", back = false, on = false, empty = "" } = props.value ?? {};
  const root = list();
  if (!root) return;
  if (!root.children.length) shown.clear();
  const focused = remember();
  const wanted = new Set(rows.map((row) => row.id));
  for (const [id, entry] of shown) {
    if (!wanted.has(id)) {
      entry.node.remove();
      shown.delete(id);
    }
  }
  let previous = null;
  for (const row of rows) {
    const node = update(row);
    const next = previous ? previous.nextSibling : root.firstChild;
    if (node !== next) root.insertBefore(node, next);
    previous = node;
  }
  element.querySelector(".place").textContent = place;
  element.querySelector(".pager").hidden = !back && !on;
  element.querySelector("[data-page='-1']").disabled = !back;
  element.querySelector("[data-page='1']").disabled = !on;
  const none = element.querySelector(".none");
  none.textContent = empty;
  none.hidden = !empty;
  restore(focused);
}

function update(row) {
  let entry = shown.get(row.id);
  if (!entry) {
    const node = document.createElement("li");
    node.className = "job";
    node.dataset.id = row.id;
    entry = { node, html: "" };
    shown.set(row.id, entry);
  }
  if (entry.html !== row.html) {
    entry.html = row.html;
    entry.node.innerHTML = row.html;
  }
  entry.node.draggable = row.queued;
  entry.node.classList.toggle("queued", row.queued);
  return entry.node;
}

function remember() {
  const active = document.activeElement;
  const job = active?.closest?.(".job");
  if (!job || !element.contains(job)) return null;
  return { id: job.dataset.id, action: active.dataset.action };
}

function restore(focused) {
  if (!focused || element.contains(document.activeElement)) return;
  const node = shown.get(focused.id)?.node;
  (node?.querySelector(`[data-action="${focused.action}"]`) ?? node?.querySelector("button"))?.focus();
}

function neighbour(job, step) {
  const other = step < 0 ? job.previousElementSibling : job.nextElementSibling;
  return other?.classList.contains("queued") ? other : null;
}

function move(job, step) {
  const other = neighbour(job, step);
  if (other) act("move", { job: job.dataset.id, anchor: other.dataset.id, side: step < 0 ? "before" : "after" });
}

element.addEventListener("click", (event) => {
  const page = event.target.closest("[data-page]");
  if (page) return act("page", { step: Number(page.dataset.page) });
  const button = event.target.closest("[data-action]");
  const job = event.target.closest(".job");
  if (!button || !job) return;
  const action = button.dataset.action;
  if (action === "up") move(job, -1);
  else if (action === "down") move(job, 1);
  else act(action, { job: job.dataset.id });
});

element.addEventListener("keydown", (event) => {
  const job = event.target.closest?.(".job");
  if (!job || !event.altKey || !["ArrowUp", "ArrowDown"].includes(event.key)) return;
  event.preventDefault();
  move(job, event.key === "ArrowUp" ? -1 : 1);
});

element.addEventListener("dragstart", (event) => {
  dragged = event.target.closest?.(".job.queued");
  if (!dragged) return;
  event.dataTransfer.effectAllowed = "move";
  event.dataTransfer.setData("text/plain", dragged.dataset.id);
  dragged.classList.add("dragged");
});

element.addEventListener("dragover", (event) => {
  const over = event.target.closest?.(".job.queued");
  if (!dragged || !over || over === dragged) return;
  event.preventDefault();
  mark(over, isAfter(event, over));
});

element.addEventListener("drop", (event) => {
  const over = event.target.closest?.(".job.queued");
  if (!dragged || !over || over === dragged) return;
  event.preventDefault();
  const side = isAfter(event, over) ? "after" : "before";
  over[side](dragged);
  act("move", { job: dragged.dataset.id, anchor: over.dataset.id, side });
});

element.addEventListener("dragend", () => {
  dragged?.classList.remove("dragged");
  mark(null);
  dragged = null;
  if (pending) {
    pending = false;
    render();
  }
});

function isAfter(event, over) {
  const box = over.getBoundingClientRect();
  return event.clientY > box.top + box.height / 2;
}

function mark(over, after) {
  for (const node of element.querySelectorAll(".before, .after")) node.classList.remove("before", "after");
  over?.classList.add(after ? "after" : "before");
}

watch("value", render);
render();
