// <ovi-compare>: two to four clips side by side with one clock; two of them also with a wipe.
//
// `clips = [{ address, label }, ...]` shows them; the event "close" says that the viewer is done.
class OviCompare extends HTMLElement {
  // A picture this far off is set right; half a frame cannot be seen.
  static TOLERANCE = 1 / 24;

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    adoptStyles(root, "controls", "compare");
    this.videos = [];
    this.divider = make("div", { className: "divider", tabIndex: 0, role: "slider", "aria-label": WORDS.wipeBetween });
    this.grid = make("div", { className: "clips" });
    this.compare = make("div", { className: "compare" }, this.grid, this.buildControls());
    root.append(this.compare);
    this.connectDivider();
    this.addEventListener("keydown", (event) => {
      if (event.defaultPrevented || event.composedPath()[0].matches("select, input")) return;
      if (this.handleKey(event)) event.preventDefault();
    });
  }

  buildControls() {
    this.playing = button("play", WORDS.play, WORDS.space, () => this.toggle());
    const range = { type: "range", min: 0, max: 1, step: "any", value: 0 };
    this.position = make("input", { ...range, className: "position", "aria-label": WORDS.position });
    this.position.addEventListener("input", () => this.seek(Number(this.position.value) * this.duration));
    this.time = make("span", { className: "time" });
    this.wipe = button("wipe", WORDS.wipe, "W", () => this.setWiping(!this.compare.classList.contains("wiping")));
    this.speed = speedMenu((speed) => this.videos.forEach((video) => (video.playbackRate = speed)));
    const group = make("div", { className: "controls", role: "group", "aria-label": WORDS.comparison });
    group.append(
      this.playing,
      button("back", WORDS.previous, ",", () => this.step(-1)),
      button("forward", WORDS.next, ".", () => this.step(1)),
      this.time,
      this.position,
      this.speed,
      this.wipe,
      button("close", WORDS.end, WORDS.escape, () => this.close()),
    );
    return group;
  }

  // The clips are shown anew only if they are others.
  set clips(clips) {
    const shown = JSON.stringify(clips);
    if (shown === this.shown) return;
    this.shown = shown;
    for (const video of this.videos) video.pause();
    this.videos = clips.map(({ address }) => {
      const video = make("video", { src: `${address}/clip.mp4`, poster: `${address}/poster.jpg`, preload: "auto" });
      Object.assign(video, { playsInline: true, muted: true, playbackRate: SPEEDS[this.speed.selectedIndex] });
      video.addEventListener("loadedmetadata", () => this.fit(video));
      video.addEventListener("click", () => this.toggle());
      return video;
    });
    this.names = clips.map(({ label }, index) => {
      const name = make("button", { type: "button", title: WORDS.hear }, label);
      name.addEventListener("click", () => this.hear(index));
      return name;
    });
    const figures = this.videos.map((video, index) => {
      return make("figure", {}, video, make("figcaption", {}, this.names[index]));
    });
    this.grid.replaceChildren(...figures, this.divider);
    this.grid.dataset.count = clips.length;
    this.wipe.hidden = clips.length !== 2;
    this.setWiping(clips.length === 2 && this.compare.classList.contains("wiping"));
    this.hear(0);
    if (clips.length) this.play();
  }

  // The longest clip is the clock; the others wait at their ends.
  get clock() {
    const lengths = this.videos.map((video) => video.duration || 0);
    return this.videos[lengths.indexOf(Math.max(...lengths))];
  }

  get duration() {
    return this.clock?.duration || 0;
  }

  fit(video) {
    video.parentElement.style.setProperty("--widest", `${3 * video.videoWidth}px`);
    video.parentElement.style.setProperty("--highest", `${3 * video.videoHeight}px`);
    this.setWipe(this.wiped ?? 0.5);
  }

  hear(index) {
    this.videos.forEach((video, each) => (video.muted = each !== index || choices().muted));
    this.names.forEach((name, each) => name.setAttribute("aria-pressed", String(each === index)));
  }

  play() {
    this.wanted = true;
    this.videos.forEach(startPlaying);
    this.showPlaying();
    if (!this.following) this.follow();
  }

  pause() {
    this.wanted = false;
    for (const video of this.videos) video.pause();
    this.showPlaying();
  }

  toggle() {
    if (this.wanted) this.pause();
    else this.play();
  }

  seek(time) {
    for (const video of this.videos) video.currentTime = Math.max(0, Math.min(video.duration || 0, time));
    this.showTime();
  }

  step(by) {
    this.pause();
    if (this.duration) this.seek(nextFrame(this.clock, by));
  }

  follow() {
    this.following = this.wanted && this.isConnected && this.offsetParent !== null;
    if (!this.following) {
      if (this.wanted) this.pause();
      return;
    }
    this.keepInStep();
    this.showTime();
    requestAnimationFrame(() => this.follow());
  }

  keepInStep() {
    const { clock } = this;
    if (!clock?.duration) return;
    if (clock.ended) {
      this.seek(0);
      this.videos.forEach(startPlaying);
      return;
    }
    for (const video of this.videos) {
      const wanted = Math.min(clock.currentTime, video.duration || 0);
      const off = Math.abs(video.currentTime - wanted);
      if (video !== clock && !video.seeking && off > OviCompare.TOLERANCE) video.currentTime = wanted;
    }
  }

  showPlaying() {
    setButton(this.playing, this.wanted ? "pause" : "play", this.wanted ? WORDS.pause : WORDS.play, WORDS.space);
  }

  showTime() {
    const { duration } = this;
    const time = this.clock?.currentTime ?? 0;
    this.time.textContent = `${formatTime(time)} / ${formatTime(duration)}`;
    if (!this.position.matches(":active")) this.position.value = duration ? time / duration : 0;
    this.position.setAttribute("aria-valuetext", secondsOf(time, duration));
  }

  setWiping(wiping) {
    this.compare.classList.toggle("wiping", wiping);
    this.wipe.setAttribute("aria-pressed", String(wiping));
    this.setWipe(this.wiped ?? 0.5);
  }

  connectDivider() {
    this.divider.addEventListener("pointerdown", (event) => {
      this.divider.setPointerCapture(event.pointerId);
      event.preventDefault();
      this.divider.focus();
    });
    this.divider.addEventListener("pointermove", (event) => {
      if (!this.divider.hasPointerCapture(event.pointerId)) return;
      const box = this.grid.getBoundingClientRect();
      this.setWipe((event.clientX - box.left) / box.width);
    });
    this.divider.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -0.02, ArrowRight: 0.02 }[event.key];
      if (!by) return;
      this.setWipe(this.wiped + by);
      event.preventDefault();
    });
  }

  // The part of the whole width; the picture of the second clip may be narrower.
  setWipe(part) {
    this.wiped = Math.max(0, Math.min(1, part));
    const percent = `${(100 * this.wiped).toFixed(2)}%`;
    this.grid.style.setProperty("--wipe", percent);
    const whole = (100 * this.wiped).toFixed(0);
    this.divider.setAttribute("aria-valuenow", whole);
    this.divider.setAttribute("aria-valuetext", window.ovi.filled(WORDS.wiped, { percent: whole }));
    const video = this.videos[1];
    if (!video?.offsetWidth) return;
    const edge = this.wiped * this.grid.offsetWidth - (this.grid.offsetWidth - video.offsetWidth) / 2;
    const inner = Math.max(0, Math.min(1, edge / video.offsetWidth));
    this.grid.style.setProperty("--wipe-inner", `${(100 * inner).toFixed(2)}%`);
  }

  close() {
    this.pause();
    this.dispatchEvent(new CustomEvent("close"));
  }

  handleKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.videos.length) return false;
    const actions = {
      " ": () => this.toggle(),
      k: () => this.toggle(),
      ",": () => this.step(-1),
      ".": () => this.step(1),
      ArrowLeft: () => this.seek(this.clock.currentTime - 1),
      ArrowRight: () => this.seek(this.clock.currentTime + 1),
      "<": () => stepSpeed(this.speed, -1),
      ">": () => stepSpeed(this.speed, 1),
      w: () => this.videos.length === 2 && this.setWiping(!this.compare.classList.contains("wiping")),
      Escape: () => this.close(),
    };
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action || (event.key === " " && event.composedPath()[0].matches?.("button, a, summary"))) return false;
    action();
    return true;
  }
}
customElements.define("ovi-compare", OviCompare);
