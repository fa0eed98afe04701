() => {
  // The bell turns notifications about finished batches on; the browser remembers the choice.
  const bell = () => document.querySelector("#bell");
  const wanted = () => window.ovi.kept("ovi-bell") === "on";
  const showBell = () => bell()?.setAttribute("aria-pressed", String(wanted()));
  document.addEventListener("click", async (event) => {
    if (!event.target.closest?.("#bell")) return;
    window.ovi.keep("ovi-bell", wanted() ? "off" : "on");
    showBell();
    if (wanted()) {
      chime(0.03);
      if ("Notification" in window && Notification.permission === "default") await Notification.requestPermission();
    }
  });

  let audio = null;
  function chime(volume) {
    audio ??= new AudioContext();
    [660, 880].forEach((frequency, index) => {
      const tone = audio.createOscillator();
      const gain = audio.createGain();
      const start = audio.currentTime + index * 0.18;
      tone.frequency.value = frequency;
      gain.gain.setValueAtTime(volume, start);
      gain.gain.exponentialRampToValueAtTime(0.0001, start + 0.5);
      tone.connect(gain).connect(audio.destination);
      tone.start(start);
      tone.stop(start + 0.5);
    });
  }

  const toast = (text) => document.dispatchEvent(new CustomEvent("ovi:toast", { detail: { text } }));

  // A batch is news if it was seen running and has ended, or if it came and ended between two checks.
  const busy = new Set();
  let newest = null;
  const isNews = (batch) => {
    if (batch.ended) return busy.delete(batch.id) || batch.id > newest;
    busy.add(batch.id);
    return false;
  };

  function announce(batch) {
    const text = batch.told;
    if (!text) return;
    toast(text);
    document.dispatchEvent(new CustomEvent("ovi:announced", { detail: batch.name }));
    if (!wanted()) return;
    chime(0.08);
    if ("Notification" in window && Notification.permission === "granted") {
      new Notification("Ovi Studio", { body: text });
    }
  }

  function check() {
    if (bell() && bell().getAttribute("aria-pressed") !== String(wanted())) showBell();
    const listed = document.querySelector("#batch-news")?.dataset.batches;
    if (!listed) return;
    const batches = JSON.parse(listed);
    const latest = Math.max(0, ...batches.map((batch) => batch.id));
    newest ??= latest;
    batches.filter(isNews).forEach(announce);
    newest = Math.max(newest, latest);
  }
  setInterval(check, 1000);
  // Batches in the first list are not news. Checking only a second later could miss one that ended in the meantime.
  const arrival = new MutationObserver(() => {
    check();
    if (newest !== null) arrival.disconnect();
  });
  arrival.observe(document.documentElement, { childList: true, subtree: true });
}
