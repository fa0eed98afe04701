// Polls the server for changes, which costs it next to nothing, and triggers the handlers of visible parts only after a
// change. `element` and `trigger` are Gradio's.
const WAIT = 500;
const LOST = 4;
let page = "";
let table = "";
let failures = 0;

async function poll() {
  try {
    const answer = await fetch("studio/pulse", { cache: "no-store" });
    if (answer.ok) report(await answer.text());
    failures = 0;
  } catch {
    failures += 1;
  }
  element.querySelector(".lost").hidden = failures < LOST;
  setTimeout(poll, WAIT);
}

function report(now) {
  if (now !== page) {
    page = now;
    trigger("beat");
  }
  // The table of the queue is requested only while it is visible.
  if (now !== table && document.querySelector("#queue")?.offsetParent) {
    table = now;
    trigger("table");
  }
}

poll();
