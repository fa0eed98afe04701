// What both elements share: buttons, stylesheets, times and what the viewer has chosen. `STYLES`, `WORDS` and `FRAME_RATE`
// come with the scripts.
const ICONS = {
  play: "M8 5.5v13l11-6.5z",
  pause: "M8 5v14M16 5v14",
  back: "M18 6l-8 6 8 6zM6 6v12",
  forward: "M6 6l8 6-8 6zM18 6v12",
  loop: "M4 11a6 6 0 0 1 6-5h9m-3-3l3 3-3 3M20 13a6 6 0 0 1-6 5H5m3 3l-3-3 3-3",
  sound: "M4 10v4h3l5 4V6L7 10zM15.5 9a4 4 0 0 1 0 6M18 6.5a8 8 0 0 1 0 11",
  muted: "M4 10v4h3l5 4V6L7 10zM16 9.5l5 5M21 9.5l-5 5",
  full: "M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5",
  spectrogram: "M4 20V10M8 20V5M12 20v-8M16 20V8M20 20v-5",
  wipe: "M12 3v18M8 8l-4 4 4 4M16 8l4 4-4 4",
  close: "M6 6l12 12M18 6L6 18",
};
const { make, keptValue, keep } = window.ovi;
const SPEEDS = [0.25, 0.5, 1, 1.5, 2];
const SHEETS = {};

function adoptStyles(root, ...names) {
  root.adoptedStyleSheets = names.map((name) => {
    SHEETS[name] ??= new CSSStyleSheet();
    SHEETS[name].replaceSync(STYLES[name]);
    return SHEETS[name];
  });
}

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

function button(name, label, key, action) {
  const made = make("button", { type: "button", title: key ? `${label} (${key})` : label, "aria-label": label }, icon(name));
  made.addEventListener("click", action);
  return made;
}

function setButton(made, name, label, key) {
  made.querySelector("path").setAttribute("d", ICONS[name]);
  made.setAttribute("aria-label", label);
  made.title = `${label} (${key})`;
}

function speedMenu(action) {
  const options = SPEEDS.map((speed) => make("option", { value: speed, selected: speed === 1 }, `${speed}×`));
  const menu = make("select", { title: `${WORDS.speed} (< >)`, "aria-label": WORDS.speed }, ...options);
  menu.addEventListener("change", () => action(Number(menu.value)));
  return menu;
}

function stepSpeed(menu, by) {
  menu.selectedIndex = Math.max(0, Math.min(SPEEDS.length - 1, menu.selectedIndex + by));
  menu.dispatchEvent(new Event("change"));
}

// 1:04.5, with the tenths that frames need.
function formatTime(seconds) {
  const tenths = Math.floor(10 * (Number.isFinite(seconds) ? seconds : 0) + 0.001);
  return `${Math.floor(tenths / 600)}:${String(Math.floor(tenths / 10) % 60).padStart(2, "0")}.${tenths % 10}`;
}

const secondsOf = (time, duration) =>
  window.ovi.filled(WORDS.at, { at: time.toFixed(1), duration: duration.toFixed(1) });

// The middle of the frame `by` frames from the one that is shown: there a browser surely shows that frame.
function nextFrame(video, by) {
  const frame = Math.floor(video.currentTime * FRAME_RATE + 0.01) + by;
  const last = Math.max(0, Math.ceil(video.duration * FRAME_RATE - 0.5) - 1);
  return (Math.max(0, Math.min(last, frame)) + 0.5) / FRAME_RATE;
}

// What the viewer has chosen, for every player of this browser.
const CHOICES = "ovi-player";
const choices = () => ({ loop: true, volume: 1, muted: false, view: "wave", ...keptValue(CHOICES) });
const choose = (changed) => keep(CHOICES, JSON.stringify({ ...choices(), ...changed }));

// Plays if the browser lets it; without a gesture of the viewer some only play without sound, which nobody asked for.
function startPlaying(video) {
  video.play().catch(() => {});
}

// Calls `act` once the video shows its next picture; in browsers that do not say when, with the next frame of the page.
function onNextPicture(video, act) {
  if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(act);
  else requestAnimationFrame(act);
}
