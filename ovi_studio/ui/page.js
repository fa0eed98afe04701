() => {
  // Some of Gradio's own rules ask for this class and not for the theme's variables.
  document.body.classList.add("dark");
  document.documentElement.lang = "en";

  document.addEventListener("keydown", (event) => {
    const create = document.querySelector("#generate:not([disabled])");
    // Only on the tab where the button is seen.
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && create?.offsetParent) {
      event.preventDefault();
      // What was typed last reaches the server before the click does.
      document.activeElement?.blur?.();
      setTimeout(() => create.click(), 50);
    }
  });

  // On a narrow screen the result is far below the button.
  document.addEventListener("click", (event) => {
    if (event.target.closest?.("#generate") && matchMedia("(max-width: 900px)").matches) {
      document.querySelector("#result")?.scrollIntoView({ behavior: "smooth", block: "start" });
    }
  });

  // Who wants to hear when a batch is done says so; the browser remembers it.
  const bell = () => document.querySelector("#bell");
  const wanted = () => localStorage.getItem("ovi-bell") === "on";
  const showBell = () => bell()?.setAttribute("aria-pressed", String(wanted()));
  document.addEventListener("click", async (event) => {
    if (!event.target.closest?.("#bell")) return;
    localStorage.setItem("ovi-bell", wanted() ? "off" : "on");
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

  function toast(text) {
    let place = document.querySelector("#toasts");
    if (!place) {
      place = document.createElement("div");
      place.id = "toasts";
      place.setAttribute("role", "status");
      document.body.append(place);
    }
    const note = document.createElement("p");
    note.textContent = text;
    place.append(note);
    setTimeout(() => note.remove(), 8000);
  }

  // A batch that was seen at work and is not any more is news.
  const busy = new Set();
  setInterval(() => {
    if (bell() && bell().getAttribute("aria-pressed") !== String(wanted())) showBell();
    const batches = JSON.parse(document.querySelector("#batch-news")?.dataset.batches ?? "[]");
    for (const batch of batches) {
      if (!batch.ended) busy.add(batch.id);
      else if (busy.delete(batch.id)) {
        const failed = batch.failed ? `, ${batch.failed} failed` : "";
        const text = `Done: ${batch.name} (${batch.done} made${failed})`;
        toast(text);
        if (wanted()) {
          chime(0.08);
          if ("Notification" in window && Notification.permission === "granted") {
            new Notification("Ovi Studio", { body: text });
          }
        }
      }
    }
  }, 1000);
}
