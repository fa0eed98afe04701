"""`<ovi-save>`, a list of the forms that a clip can be saved in: an element of the page for every tab.

    <ovi-save address="studio/clip/<id>"></ovi-save>

What it shows is in a shadow root, which Gradio's updates of the HTML around it leave alone.
"""

import json
from html import escape
from pathlib import Path

SAVE_AS, SAVING = "Save as…", "Saving…"
FORMS = {
    "Sound (WAV)": "export.wav",
    "Frame on screen (PNG)": "export.png",
    "Loop (GIF)": "export.gif",
    "Loop (WebP)": "export.webp",
    "Clip and settings (zip)": "export.zip",
}
"""What each form is called, and its file below the clip's address in `media_routes`."""
NOT_SAVED = "Not saved"


def save_html(address: str) -> str:
    """Render the element for the clip whose files are below this address."""
    return f'<ovi-save address="{escape(address)}"></ovi-save>'


def saving_head() -> str:
    """Return the script that defines the element, for the page's head."""
    words = json.dumps({"saveAs": SAVE_AS, "saving": SAVING, "forms": FORMS, "notSaved": NOT_SAVED})
    script = Path(__file__).with_name("saving.js").read_text(encoding="utf-8")
    return f"<script>(() => {{\nconst WORDS = {words};\n{script}\n}})();</script>"
