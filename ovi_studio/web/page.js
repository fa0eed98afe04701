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

  // The address names the tab, so that a reload stays there and the browser's own buttons go back and forth.
  const tabs = () => [...document.querySelectorAll("#tabs [role=tab]")];
  const shownTab = () => tabs().find((tab) => tab.getAttribute("aria-selected") === "true");
  const goToAddress = () => tabs().find((tab) => `#${tab.dataset.tabId}` === location.hash)?.click();
  let shown = shownTab();
  const keepAddress = () => {
    const tab = shownTab();
    if (!tab || tab === shown) return;
    shown = tab;
    // Each tab begins at its top.
    scrollTo(0, 0);
    const address = `#${tab.dataset.tabId}`;
    if (address !== (location.hash || `#${tabs()[0].dataset.tabId}`)) history.pushState(null, "", address);
  };
  const list = document.querySelector("#tabs [role=tablist]");
  if (list) {
    goToAddress();
    new MutationObserver(keepAddress).observe(list, { subtree: true, attributeFilter: ["aria-selected"] });
    addEventListener("popstate", () => (location.hash ? goToAddress() : tabs()[0].click()));
  }

  // A picture that is pasted anywhere on the Create tab is its first frame.
  document.addEventListener("paste", (event) => {
    const picture = [...(event.clipboardData?.files ?? [])].find((file) => file.type.startsWith("image/"));
    const input = document.querySelector("#first-frame input[type=file]");
    if (!picture || !input || !document.querySelector("#generate")?.offsetParent) return;
    event.preventDefault();
    const files = new DataTransfer();
    files.items.add(picture);
    input.files = files.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
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

  // A batch is news that was seen at work and is not any more, or that came and went between two looks.
  const busy = new Set();
  let newest = null;
  const isNews = (batch) => {
    if (batch.ended) return busy.delete(batch.id) || batch.id > newest;
    busy.add(batch.id);
    return false;
  };

  function tell(batch) {
    // Who cancelled it knows.
    if (!batch.done && !batch.failed) return;
    const failed = batch.failed ? `, ${batch.failed} failed` : "";
    const text = `Done: ${batch.name} (${batch.done} made${failed})`;
    toast(text);
    if (!wanted()) return;
    chime(0.08);
    if ("Notification" in window && Notification.permission === "granted") {
      new Notification("Ovi Studio", { body: text });
    }
  }

  function look() {
    if (bell() && bell().getAttribute("aria-pressed") !== String(wanted())) showBell();
    const listed = document.querySelector("#batch-news")?.dataset.batches;
    if (!listed) return;
    const batches = JSON.parse(listed);
    const latest = Math.max(0, ...batches.map((batch) => batch.id));
    newest ??= latest;
    batches.filter(isNews).forEach(tell);
    newest = Math.max(newest, latest);
  }
  setInterval(look, 1000);
  // What is listed first is no news. A look a second later could take what was made meanwhile for that.
  const arrival = new MutationObserver(() => {
    look();
    if (newest !== null) arrival.disconnect();
  });
  arrival.observe(document.documentElement, { childList: true, subtree: true });
}
