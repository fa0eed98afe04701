() => {
  // What is seen of the page from elsewhere: the title and the icon of the browser's tab, and the count on the Queue tab.
  const NAME = "Ovi Studio";
  const SIZE = 64;
  const canvas = Object.assign(document.createElement("canvas"), { width: SIZE, height: SIZE });
  const state = { jobs: 0, step: "", fraction: 0, trouble: "", news: "" };
  let drawn = "";

  function show() {
    const first = state.trouble === "lost" ? document.querySelector("#pulse .lost").dataset.title : state.news || state.step;
    const title = first ? `${first} · ${NAME}` : NAME;
    if (document.title !== title) document.title = title;
    const tab = document.querySelector("#tabs [data-tab-id=queue]");
    if (tab && (tab.dataset.count ?? "") !== (state.jobs ? String(state.jobs) : "")) {
      if (state.jobs) tab.dataset.count = state.jobs;
      else delete tab.dataset.count;
    }
    draw(state.trouble || state.news ? 1 : Math.round(state.fraction * 20) / 20);
  }

  function draw(part) {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const mark = colour(state.trouble ? "--bad" : state.news ? "--good" : "--color-accent");
    if (drawn === mark + part) return;
    drawn = mark + part;
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, SIZE, SIZE);
    pen.fillStyle = colour("--button-primary-background-fill");
    pen.strokeStyle = colour("--button-primary-text-color");
    const edge = part ? 12 : 0;
    pen.beginPath();
    pen.roundRect(edge, edge, SIZE - 2 * edge, SIZE - 2 * edge, 18 - edge / 2);
    pen.fill();
    bars(pen, edge);
    if (part) ring(pen, part, mark);
    const link = document.querySelector("link[rel~=icon]") ?? document.head.appendChild(document.createElement("link"));
    link.rel = "icon";
    link.href = canvas.toDataURL();
  }

  // The logo, on a grid of 32.
  function bars(pen, edge) {
    const scale = (SIZE - 2 * edge) / 32;
    pen.lineWidth = 2.4 * scale;
    pen.lineCap = "round";
    pen.beginPath();
    for (const [x, top, height] of [[8, 13, 6], [12, 9.5, 13], [16, 12, 8], [20, 8, 16], [24, 13.5, 5]]) {
      pen.moveTo(edge + x * scale, edge + top * scale);
      pen.lineTo(edge + x * scale, edge + (top + height) * scale);
    }
    pen.stroke();
  }

  function ring(pen, part, colour) {
    pen.lineWidth = 8;
    pen.strokeStyle = colour;
    pen.beginPath();
    pen.arc(SIZE / 2, SIZE / 2, SIZE / 2 - 4, -Math.PI / 2, (2 * part - 0.5) * Math.PI);
    pen.stroke();
  }

  function read() {
    const line = document.querySelector("#engine .engine");
    if (!line) return;
    state.jobs = Number(line.dataset.jobs);
    state.step = line.dataset.step;
    state.fraction = Number(line.dataset.fraction);
    show();
  }

  document.addEventListener("ovi:connection", (event) => {
    state.trouble = event.detail;
    show();
  });
  // Until somebody looks.
  document.addEventListener("ovi:announced", (event) => {
    if (!document.hidden) return;
    state.news = `✓ ${event.detail}`;
    show();
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden || !state.news) return;
    state.news = "";
    show();
  });
  const engine = document.querySelector("#engine");
  if (!engine) return;
  new MutationObserver(read).observe(engine, { childList: true, subtree: true, attributes: true });
  read();
}
