// What is said and what happens in between, as rows. `props.value` is {raw, cues: [{who, said, mark} | {text}]}; the
// texts are what people typed, and never become HTML.
const root = element.querySelector(".cues");
const { make, filled } = window.ovi;
const words = (name, row) => filled(props.words[name], { row });
const cuesOf = () => props.value?.cues ?? [];
let own = null;

function change(cues) {
  own = JSON.stringify(cues);
  props.value = { ...(props.value ?? {}), cues };
}

function grow(area) {
  area.style.height = "auto";
  area.style.height = `${area.scrollHeight + 2}px`;
}

function field(tag, label, value, placeholder, edit) {
  const node = make(tag, { "aria-label": label, placeholder, maxLength: 20000, ...(tag === "textarea" ? { rows: 1 } : {}) });
  node.value = value;
  node.addEventListener("input", () => {
    if (tag === "textarea") grow(node);
    edit(node.value);
  });
  return node;
}

function row(cue, index, count) {
  const edit = (name) => (value) => change(cuesOf().map((one, at) => (at === index ? { ...one, [name]: value } : one)));
  const what = "text" in cue ? "text" : "speech";
  const item = make("li", { className: `cue ${what}` });
  if (what === "text") {
    item.append(field("textarea", words("text", index + 1), cue.text, words("text_example"), edit("text")));
  } else {
    item.append(
      field("input", words("who", index + 1), cue.who ?? "", words("who_example"), edit("who")),
      field("textarea", words("said", index + 1), cue.said ?? "", words("said_example"), edit("said")),
    );
  }
  const tools = make("div", { className: "tools" });
  const tool = (act, text, disabled) => {
    const title = props.words[act];
    const label = filled(props.words.act, { act: title, row: index + 1 });
    tools.append(make("button", { type: "button", "data-row": act, "aria-label": label, title, disabled }, text));
  };
  tools.append(make("span", { className: "pace" }));
  tool("up", "↑", index === 0);
  tool("down", "↓", index === count - 1);
  tool("remove", "×", false);
  item.append(tools);
  return item;
}

function draw() {
  const cues = cuesOf();
  root.replaceChildren(...cues.map((cue, index) => row(cue, index, cues.length)));
  root.hidden = !cues.length;
  root.querySelectorAll("textarea").forEach(grow);
  showPaces();
}

function showPaces() {
  const paces = JSON.parse(document.querySelector("#findings [data-paces]")?.dataset.paces ?? "[]");
  // A row without words is not part of the prompt.
  const spoken = [...root.querySelectorAll(".speech")].filter((row) => row.querySelector("textarea").value.trim());
  root.querySelectorAll(".speech").forEach((row) => {
    const { level = "", short = "", text = "" } = paces[spoken.indexOf(row)] ?? {};
    const place = row.querySelector(".pace");
    place.className = `pace ${level.replace(" ", "-")}`;
    place.textContent = short;
    place.title = text;
  });
}

const acts = {
  up: (cues, index) => cues.splice(index - 1, 0, ...cues.splice(index, 1)),
  down: (cues, index) => cues.splice(index + 1, 0, ...cues.splice(index, 1)),
  remove: (cues, index) => cues.splice(index, 1),
};

function offerBack(before, index) {
  const { text = "", said = "", who = "" } = before[index];
  if (!`${text}${said}${who}`.trim()) return;
  const undo = () => {
    change(before);
    draw();
  };
  document.dispatchEvent(new CustomEvent("ovi:toast", { detail: { text: words("removed"), undo } }));
}

element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const cues = [...cuesOf()];
  if (button.dataset.add) {
    cues.push(button.dataset.add === "text" ? { text: "" } : { who: "", said: "", mark: "," });
    change(cues);
    draw();
    root.lastElementChild.querySelector("input, textarea").focus();
  } else if (button.dataset.row) {
    const index = [...root.children].indexOf(button.closest("li"));
    if (button.dataset.row === "remove") offerBack(cuesOf(), index);
    acts[button.dataset.row](cues, index);
    change(cues);
    draw();
    const goal = { up: index - 1, down: index + 1, remove: Math.min(index, cues.length - 1) }[button.dataset.row];
    const again = root.children[goal]?.querySelector(`[data-row=${button.dataset.row}]:not(:disabled)`);
    (again ?? root.children[goal]?.querySelector("input, textarea") ?? element.querySelector("[data-add]")).focus();
  }
});
root.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.ctrlKey && !event.metaKey) event.preventDefault();
});

watch("value", () => {
  if (JSON.stringify(cuesOf()) !== own) draw();
  own = JSON.stringify(cuesOf());
});
document.addEventListener("ovi:checked", showPaces);
draw();
