// Collections and tags: a click searches for them. `element` and `trigger` are Gradio's.
element.addEventListener("click", (event) => {
  const { search, forget } = event.target.closest("button")?.dataset ?? {};
  if (search !== undefined) trigger("search", { search });
  if (forget !== undefined) trigger("forget", { name: forget });
});
