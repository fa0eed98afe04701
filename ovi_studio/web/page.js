() => {
  document.documentElement.lang = "en";
  window.ovi.endLoading();

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
}
