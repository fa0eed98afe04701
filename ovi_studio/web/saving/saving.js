// `<ovi-save>`: saves a clip in the chosen form. `WORDS` is what it says.
const STYLE = `
  :host { display: inline-grid; }
  select { width: 100%; height: 100%; font: inherit; color: inherit; cursor: pointer; }
  select:focus-visible { outline: 2px solid var(--focus); outline-offset: -2px; }
`;

class OviSave extends HTMLElement {
  connectedCallback() {
    if (this.shadowRoot) return;
    const style = document.createElement("style");
    style.textContent = STYLE;
    this.select = document.createElement("select");
    this.select.part = "select";
    this.select.setAttribute("aria-label", WORDS.saveAs);
    this.select.append(new Option(WORDS.saveAs, ""));
    for (const [text, file] of Object.entries(WORDS.forms)) this.select.append(new Option(text, file));
    this.select.addEventListener("change", () => this.save(this.select.value));
    this.attachShadow({ mode: "open" }).append(style, this.select);
  }

  // A loop takes seconds to make; until then the list says so, and what goes wrong is told.
  async save(file) {
    this.select.options[0].text = WORDS.saving;
    this.select.value = "";
    this.select.disabled = true;
    try {
      const answer = await fetch(`${this.getAttribute("address")}/${file}${this.moment(file)}`);
      if (!answer.ok) throw new Error(await answer.text());
      download(await answer.blob(), nameOf(answer) ?? file);
    } catch (error) {
      const text = `${WORDS.notSaved}: ${error.message}`;
      document.dispatchEvent(new CustomEvent("ovi:toast", { detail: { text, failed: true } }));
    }
    this.select.options[0].text = WORDS.saveAs;
    this.select.disabled = false;
  }

  // A still is the frame that the player beside this list shows.
  moment(file) {
    if (!file.endsWith(".png")) return "";
    const seconds = this.closest("#lightbox, #stage")?.querySelector("ovi-player")?.video?.currentTime ?? 0;
    return `?milliseconds=${Math.floor(1000 * seconds)}`;
  }
}

function nameOf(answer) {
  const found = /filename\*=utf-8''([^;]+)/.exec(answer.headers.get("Content-Disposition") ?? "");
  return found && decodeURIComponent(found[1]);
}

function download(blob, name) {
  const link = document.createElement("a");
  Object.assign(link, { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

customElements.define("ovi-save", OviSave);
