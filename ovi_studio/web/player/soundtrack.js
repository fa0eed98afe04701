// The sound of a clip as waveform or spectrogram, with the words of its speech, a playhead, and seeking.
class Soundtrack {
  // `seek` gets a part of the whole, and `mark` two: where a span of time begins and ends. `marks` says whether a drag
  // marks, or seeks.
  constructor(seek, mark, marks) {
    Object.assign(this, { seek, mark, marks });
    this.words = [];
    const svg = (name) => {
      const drawn = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      drawn.setAttribute("class", name);
      drawn.setAttribute("preserveAspectRatio", "none");
      drawn.setAttribute("aria-hidden", "true");
      drawn.append(document.createElementNS("http://www.w3.org/2000/svg", "path"));
      return drawn;
    };
    this.waves = [svg("wave"), svg("wave played")];
    this.spectrogram = make("div", { className: "spectrogram" });
    this.head = make("i", { className: "head" });
    this.track = make("div", { className: "track", tabIndex: 0, role: "slider" });
    this.track.setAttribute("aria-label", WORDS.position);
    this.track.setAttribute("aria-valuemin", "0");
    this.span = make("i", { className: "span", hidden: true });
    this.track.append(this.span, ...this.waves, this.spectrogram, this.head);
    this.speech = make("ol", { className: "speech" });
    this.speech.setAttribute("aria-label", WORDS.speech);
    this.element = make("div", { className: "soundtrack" }, this.speech, this.track);
    this.connectPointer();
    new ResizeObserver(() => this.fitSpeech()).observe(this.track);
    this.clear();
  }

  connectPointer() {
    const partAt = (event) => {
      const box = this.track.getBoundingClientRect();
      return Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
    };
    let start = null;
    this.track.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      this.track.setPointerCapture(event.pointerId);
      start = this.marks(event) ? partAt(event) : null;
      if (start === null) this.seek(partAt(event));
    });
    this.track.addEventListener("pointermove", (event) => {
      if (!this.track.hasPointerCapture(event.pointerId)) return;
      const at = partAt(event);
      if (start === null) this.seek(at);
      else if (at !== start) this.mark(Math.min(start, at), Math.max(start, at));
    });
    this.speech.addEventListener("click", (event) => {
      const word = event.target.closest("[data-start]");
      if (word && this.seconds) this.seek(Number(word.dataset.start) / this.seconds);
    });
  }

  clear() {
    this.address = "";
    this.seconds = 0;
    this.words = [];
    for (const wave of this.waves) wave.firstChild.removeAttribute("d");
    this.spectrogram.style.removeProperty("--levels");
    this.speech.replaceChildren();
    this.element.classList.add("silent");
  }

  async load(address) {
    this.clear();
    this.address = address;
    let found;
    try {
      const answer = await fetch(`${address}/sound.json`);
      if (!answer.ok) return;
      found = await answer.json();
    } catch {
      return; // the clip plays without a picture of its sound
    }
    if (this.address !== address) return;
    this.seconds = found.seconds;
    this.element.classList.remove("silent");
    this.drawWave(found.peaks);
    this.showSpeech(found.speech);
    // Fetched when it is first shown.
    this.spectrogram.style.setProperty("--levels", `url("${new URL(`${address}/spectrogram.png`, document.baseURI)}")`);
  }

  drawWave(peaks) {
    const count = peaks.length / 2;
    // At least a line where it is silent.
    const top = (column) => (127 - Math.max(peaks[2 * column + 1], 1)).toFixed(0);
    const bottom = (column) => (127 - Math.min(peaks[2 * column], -1)).toFixed(0);
    const columns = [...Array(count).keys()];
    const upper = columns.map((column) => `L${column} ${top(column)}L${column + 1} ${top(column)}`);
    const lower = columns.reverse().map((column) => `L${column + 1} ${bottom(column)}L${column} ${bottom(column)}`);
    for (const wave of this.waves) {
      wave.setAttribute("viewBox", `0 0 ${count} 254`);
      wave.firstChild.setAttribute("d", `M0 127${upper.join("")}${lower.join("")}Z`);
    }
  }

  showSpeech(blocks) {
    const percent = (seconds) => `${((100 * seconds) / this.seconds).toFixed(2)}%`;
    const lines = blocks.map(({ who, words }) => {
      const start = words[0][1];
      const end = words[words.length - 1][2];
      const spans = words.map(([text, from, until]) => {
        const word = make("span", {}, text);
        word.dataset.start = from;
        word.dataset.end = until;
        word.style.left = `${((100 * (from - start)) / (end - start || 1)).toFixed(2)}%`;
        word.style.width = `${((100 * (until - from)) / (end - start || 1)).toFixed(2)}%`;
        return word;
      });
      const line = make("li", { title: who ? `${who}: ${words.map(([text]) => text).join(" ")}` : "" }, ...spans);
      line.style.left = percent(start);
      line.style.width = percent(end - start);
      return line;
    });
    this.speech.replaceChildren(...lines);
    this.words = [...this.speech.querySelectorAll("span")];
    this.fitSpeech();
  }

  // Where there is no room for every word in its place, the words of a line follow each other.
  fitSpeech() {
    for (const line of this.speech.children) {
      line.classList.remove("dense");
      const cut = [...line.children].some((word) => word.scrollWidth > word.clientWidth + 1);
      line.classList.toggle("dense", cut);
    }
  }

  // Shows a span of time as two parts of the whole; nothing without them.
  showSpan(from, to) {
    this.span.hidden = !(to > from);
    this.span.style.left = `${(100 * from).toFixed(3)}%`;
    this.span.style.width = `${(100 * (to - from)).toFixed(3)}%`;
  }

  get hasSpeech() {
    return this.words.length > 0;
  }

  moveTo(time, duration) {
    const part = duration > 0 ? Math.min(1, time / duration) : 0;
    this.element.style.setProperty("--at", `${(100 * part).toFixed(3)}%`);
    const spoken = secondsOf(time, duration || 0);
    if (this.track.getAttribute("aria-valuetext") !== spoken) {
      this.track.setAttribute("aria-valuemax", (duration || 0).toFixed(1));
      this.track.setAttribute("aria-valuenow", time.toFixed(1));
      this.track.setAttribute("aria-valuetext", spoken);
    }
    for (const word of this.words) {
      word.classList.toggle("said", time >= Number(word.dataset.start) && time < Number(word.dataset.end));
    }
  }
}
