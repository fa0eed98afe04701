// Asks the server whether anything has changed, which costs it next to nothing, and lets the handlers of what is shown
// run only then. `element` and `trigger` are Gradio's.
const WAIT = 500;
const LOST = 4;
let page = "";
let table = "";
let failures = 0;

async function look() {
  try {
    const answer = await fetch("studio/pulse", { cache: "no-store" });
    if (answer.ok) tell(await answer.text());
    failures = 0;
  } catch {
    failures += 1;
  }
  element.querySelector(".lost").hidden = failures < LOST;
  setTimeout(look, WAIT);
}

function tell(now) {
  if (now !== page) {
    page = now;
    trigger("beat");
  }
  // The table of the queue is asked for only while it is seen.
  if (now !== table && document.querySelector("#queue")?.offsetParent) {
    table = now;
    trigger("table");
  }
}

look();
