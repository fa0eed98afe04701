() => {
  document.documentElement.lang = "en";

  document.addEventListener("keydown", (event) => {
    const create = document.querySelector("#generate:not([disabled])");
    // Only while the button's tab is shown.
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && create?.offsetParent) {
      event.preventDefault();
      // Blur first, so that the last input reaches the server before the click.
      document.activeElement?.blur?.();
      setTimeout(() => create.click(), 50);
    }
  });

  // The URL names the tab, so that a reload stays there and the browser's back and forward buttons work.
  const tabs = () => [...document.querySelectorAll("#tabs [role=tab]")];
  const shownTab = () => tabs().find((tab) => tab.getAttribute("aria-selected") === "true");
  const goToAddress = () => tabs().find((tab) => `#${tab.dataset.tabId}` === location.hash)?.click();
  let shown = shownTab();
  const keepAddress = () => {
    const tab = shownTab();
    if (!tab || tab === shown) return;
    shown = tab;
    // Show each tab from its top.
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

  // A picture pasted anywhere on the Create tab becomes the first frame.
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

  // The bell turns notifications about finished batches on; the browser remembers the choice.
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
    // A batch that was cancelled as a whole needs no announcement.
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
