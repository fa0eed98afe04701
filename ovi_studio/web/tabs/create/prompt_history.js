// The last prompts, kept in the browser: searched, and written into the form again.
const PROMPTS = "ovi-prompts";
const MOST_PROMPTS = 200;
const history = element.querySelector(".history");
const found = history.querySelector("ul");
const search = history.querySelector("input");

const writtenParts = ({ prompt, cues, sound }) => ({ prompt: prompt ?? "", cues: cues ?? null, sound: sound ?? "" });
const wordsOf = ({ prompt, cues, sound }) =>
  [prompt, ...(cues?.cues ?? []).map((cue) => cue.text ?? `${cue.who ?? ""} “${cue.said ?? ""}”`), sound]
    .filter((part) => part?.trim())
    .join(" ");

function usedPrompt(written) {
  const parts = writtenParts(written);
  if (!wordsOf(parts).trim()) return;
  const others = read(PROMPTS, []).filter((entry) => !same(writtenParts(entry), parts));
  write(PROMPTS, [{ ...parts, time: Date.now() }, ...others].slice(0, MOST_PROMPTS));
}

function list() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const fitting = read(PROMPTS, []).filter((entry) => words.every((word) => wordsOf(entry).toLowerCase().includes(word)));
  found.replaceChildren(
    ...fitting.map((entry) => {
      const text = wordsOf(entry);
      const when = new Date(entry.time).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
      const parts = [make("span", {}, text), make("time", {}, when)];
      const button = make("button", { type: "button", title: text }, ...parts);
      button.addEventListener("click", () => {
        history.hidePopover();
        composer.fill(writtenParts(entry));
      });
      return make("li", {}, button);
    }),
  );
  const none = history.querySelector(".none");
  none.hidden = fitting.length > 0;
  none.textContent = words.length ? props.words.no_match : props.words.no_prompts;
}

const opener = element.querySelector("[data-act=history]");
history.popover = "auto";
opener.popoverTargetElement = history;
history.addEventListener("beforetoggle", (event) => event.newState === "open" && list());
history.addEventListener("toggle", (event) => {
  opener.setAttribute("aria-expanded", String(event.newState === "open"));
  if (event.newState !== "open") return;
  place(history, opener);
  search.focus();
});
search.addEventListener("input", list);
found.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const all = [...found.querySelectorAll("button")];
  all[all.indexOf(document.activeElement) + step]?.focus();
});
search.addEventListener("keydown", (event) => {
  if (event.key !== "ArrowDown") return;
  event.preventDefault();
  found.querySelector("button")?.focus();
});
