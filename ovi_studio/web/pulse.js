// Asks the server for news, whose answer waits until there are some, and triggers the handlers of visible parts only
// then. Says when the server is gone, and goes on when it is back. `element` and `trigger` are Gradio's.
const WAIT = 500;
// A server that is only busy answers late, but does not refuse.
const PATIENCE = 6000;
const REFUSALS = 3;
let page = "";
let table = "";
let refused = 0;
let missed = false;

async function poll() {
  // A browser opens only a few connections to one server: pages that nobody looks at hold none.
  const known = document.hidden ? "" : `?${new URLSearchParams({ known: page })}`;
  const { news, loggedOut, refusals } = await ask(known);
  setTimeout(poll, news !== undefined && known ? 0 : WAIT);
  refused = refusals ? refused + refusals : 0;
  if (news === undefined) missed = true;
  if (loggedOut) tell("login");
  else if (refused >= REFUSALS) tell("lost");
  if (news === undefined) return;
  tell("");
  if (missed) askAgain();
  report(news);
}

async function ask(known) {
  try {
    const answer = await fetch(`studio/pulse${known}`, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    if (answer.status === 401) return { loggedOut: true };
    return answer.ok ? { news: await answer.text() } : { refusals: 1 };
  } catch (error) {
    return { refusals: error.name === "TimeoutError" ? REFUSALS : 1 };
  }
}

function tell(trouble) {
  const shown = element.querySelector(".lost");
  if (shown.dataset.trouble === trouble) return;
  shown.dataset.trouble = trouble;
  shown.hidden = !trouble;
  for (const part of shown.querySelectorAll("[data-of]")) part.hidden = part.dataset.of !== trouble;
  document.dispatchEvent(new CustomEvent("ovi:connection", { detail: trouble }));
}

// Requests of the page may be lost with an answer of the pulse: they are made again, even if nothing else is new.
function askAgain() {
  missed = false;
  page = table = "";
  document.dispatchEvent(new CustomEvent("ovi:again"));
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
