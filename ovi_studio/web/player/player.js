// <ovi-player address="studio/job/<id>" label="Clip 7" [autoplay] [mini] [markable]>: a clip with controls of our own.
//
// If it is markable, Shift with the arrows or a drag marks a span of time, and with the attribute `marking` any drag does.
// The document hears of it as `ovi:marked`; `mark` shows a span.
//
// Keys, while it has the focus or a page passes them to `handleKey`: space and K play, comma and full stop go frame by
// frame, the arrows by a second, < and > change the speed, L loops, M mutes, S shows the spectrogram, F fills the screen.
const END_SECONDS = 0.2;
const MARK_STEP = 0.1;
class OviPlayer extends HTMLElement {
  static observedAttributes = ["address", "label"];

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    adoptStyles(root, "controls", "player");
    this.video = make("video", { playsInline: true, preload: "auto", loop: true });
    this.start = button("play", WORDS.play, "", () => this.toggle());
    this.start.className = "start";
    const time = (part) => part * (this.video.duration || 0);
    this.soundtrack = new Soundtrack(
      (part) => this.seek(time(part)),
      (from, to) => this.marked(time(from), time(to)),
      (event) => this.hasAttribute("markable") && (event.shiftKey || this.hasAttribute("marking")),
    );
    this.screen = make("div", { className: "screen", "data-broken": WORDS.broken }, this.video, this.start);
    this.player = make("div", { className: "player" }, this.screen, this.soundtrack.element, this.buildControls());
    root.append(this.player);
    this.connectVideo();
    this.addEventListener("keydown", (event) => {
      if (event.defaultPrevented || event.composedPath()[0].matches("select, input")) return;
      if (this.handleKey(event)) event.preventDefault();
    });
    this.useChoices();
  }

  buildControls() {
    this.playing = button("play", WORDS.play, WORDS.space, () => this.toggle());
    this.time = make("span", { className: "time" });
    this.note = make("span", { className: "note", title: WORDS.estimatedFrom });
    this.note.textContent = WORDS.estimated;
    this.view = button("spectrogram", WORDS.spectrogram, "S", () => this.change("view", this.isWave ? "spectrogram" : "wave"));
    this.looping = button("loop", WORDS.loop, "L", () => this.change("loop", !this.video.loop));
    this.speed = speedMenu((speed) => (this.video.playbackRate = speed));
    this.sound = button("sound", WORDS.mute, "M", () => this.change("muted", !this.video.muted));
    const range = { type: "range", min: 0, max: 1, step: 0.05 };
    this.volume = make("input", { ...range, className: "volume", "aria-label": WORDS.volume });
    this.volume.addEventListener("input", () => this.changeVolume(Number(this.volume.value)));
    const group = make("div", { className: "controls", role: "group", "aria-label": WORDS.player });
    group.append(
      this.playing,
      button("back", WORDS.previous, ",", () => this.step(-1)),
      button("forward", WORDS.next, ".", () => this.step(1)),
      this.time,
      this.note,
      make("span", { className: "grow" }),
      this.view,
      this.looping,
      this.speed,
      this.sound,
      this.volume,
      button("full", WORDS.full, "F", () => this.fillScreen()),
    );
    return group;
  }

  connectVideo() {
    const { video } = this;
    const show = () => this.showTime();
    for (const event of ["seeked", "timeupdate", "durationchange"]) video.addEventListener(event, show);
    for (const event of ["play", "pause", "ended"]) video.addEventListener(event, () => this.showPlaying());
    video.addEventListener("loadedmetadata", () => {
      // A small clip is not blown up without end.
      this.screen.style.setProperty("--widest", `${3 * video.videoWidth}px`);
      this.screen.style.setProperty("--highest", `${3 * video.videoHeight}px`);
    });
    video.addEventListener("click", () => this.toggle());
    video.addEventListener("error", () => this.player.classList.toggle("broken", Boolean(this.getAttribute("address"))));
  }

  attributeChangedCallback(name, before, now) {
    if (before === now) return;
    if (name === "label") this.video.setAttribute("aria-label", now ?? "");
    else this.load(now ?? "");
  }

  load(address) {
    this.player.classList.remove("broken");
    this.player.classList.toggle("empty", !address);
    if (!address) {
      this.video.removeAttribute("src");
      this.video.load();
      this.soundtrack.clear();
      return;
    }
    const { playbackRate } = this.video;
    this.video.poster = `${address}/poster.jpg`;
    this.video.src = `${address}/clip.mp4`;
    this.video.playbackRate = playbackRate;
    if (this.hasAttribute("autoplay")) startPlaying(this.video);
    this.showTime();
    this.soundtrack.load(address).then(() => {
      this.note.hidden = !this.soundtrack.hasSpeech;
      this.showTime();
    });
  }

  disconnectedCallback() {
    this.video.pause();
  }

  useChoices() {
    const { loop, muted, volume, view } = choices();
    Object.assign(this.video, { loop, muted, volume });
    this.volume.value = muted ? 0 : volume;
    this.isWave = view === "wave";
    this.soundtrack.element.classList.toggle("spectral", !this.isWave);
    this.view.setAttribute("aria-pressed", String(!this.isWave));
    this.looping.setAttribute("aria-pressed", String(loop));
    setButton(this.sound, muted ? "muted" : "sound", muted ? WORDS.unmute : WORDS.mute, "M");
    this.note.hidden = !this.soundtrack.hasSpeech;
    this.showPlaying();
  }

  change(name, value) {
    choose({ [name]: value });
    this.useChoices();
  }

  changeVolume(volume) {
    choose(volume ? { volume, muted: false } : { muted: true });
    this.useChoices();
  }

  toggle() {
    if (this.video.paused) startPlaying(this.video);
    else this.video.pause();
  }

  seek(time) {
    this.video.currentTime = Math.max(0, Math.min(this.video.duration || 0, time));
    this.showTime();
  }

  step(by) {
    this.video.pause();
    if (this.video.duration) this.seek(nextFrame(this.video, by));
  }

  // A span of time in seconds; null for none.
  mark(span) {
    const { duration } = this.video;
    if (span && duration) this.soundtrack.showSpan(span.from / duration, Math.min(1, span.to / duration));
    else this.soundtrack.showSpan(0, 0);
  }

  // What is next to an end of the clip means that end: less is left than the latents that could be kept.
  marked(start, end) {
    const { duration } = this.video;
    if (!duration) return;
    const atEnd = end > duration - END_SECONDS;
    const detail = { from: start < 1 / FRAME_RATE ? 0 : start, to: atEnd ? duration : end, atEnd };
    if (detail.to > detail.from) document.dispatchEvent(new CustomEvent("ovi:marked", { detail }));
  }

  // Goes on from where the last key ended, if the playhead is still there.
  extendMark(by) {
    this.video.pause();
    const at = this.video.currentTime;
    const goesOn = Math.abs(this.extended?.head - at) < MARK_STEP / 4;
    const start = goesOn ? this.extended.start : at;
    this.seek(at + by);
    const head = this.video.currentTime;
    this.extended = { start, head };
    this.marked(Math.min(start, head), Math.max(start, head));
  }

  fillScreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else this.player.requestFullscreen?.().catch(() => {});
  }

  handleKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.getAttribute("address")) return false;
    const { video } = this;
    const actions = {
      " ": () => this.toggle(),
      k: () => this.toggle(),
      ",": () => this.step(-1),
      ".": () => this.step(1),
      ArrowLeft: () => this.seek(video.currentTime - 1),
      ArrowRight: () => this.seek(video.currentTime + 1),
      Home: () => this.seek(0),
      End: () => this.seek(video.duration),
      "<": () => stepSpeed(this.speed, -1),
      ">": () => stepSpeed(this.speed, 1),
      l: () => this.change("loop", !video.loop),
      m: () => this.change("muted", !video.muted),
      s: () => this.change("view", this.isWave ? "spectrogram" : "wave"),
      f: () => this.fillScreen(),
    };
    const marks = { ArrowLeft: () => this.extendMark(-MARK_STEP), ArrowRight: () => this.extendMark(MARK_STEP) };
    if (event.shiftKey && this.hasAttribute("markable")) Object.assign(actions, marks);
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    // On one of the buttons the space bar presses that button.
    const pressed = event.key === " " && event.composedPath()[0].matches?.("button, a, summary");
    if (!action || pressed) return false;
    action();
    return true;
  }

  showPlaying() {
    const { paused } = this.video;
    this.player.classList.toggle("paused", paused);
    setButton(this.playing, paused ? "play" : "pause", paused ? WORDS.play : WORDS.pause, WORDS.space);
    if (!paused && !this.following) this.follow();
  }

  // The playhead moves with the picture: not four times a second, and not between two pictures.
  follow() {
    this.following = true;
    this.showTime();
    if (this.video.paused || !this.isConnected) this.following = false;
    else onNextPicture(this.video, () => this.follow());
  }

  showTime() {
    const { currentTime, duration } = this.video;
    const text = `${formatTime(currentTime)} / ${formatTime(duration)}`;
    if (this.time.textContent !== text) this.time.textContent = text;
    this.soundtrack.moveTo(currentTime, duration);
  }
}
customElements.define("ovi-player", OviPlayer);
