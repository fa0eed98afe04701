"""`<ovi-save>`, a list of the forms that a clip can be saved in: an element of the page for every tab.

    <ovi-save address="studio/clip/<id>"></ovi-save>

What it shows is in a shadow root, which Gradio's updates of the HTML around it leave alone.
"""

from html import escape
from pathlib import Path

from ovi_studio.web.saving.texts import WORDS
from ovi_studio.web.scripts import head_script


def save_html(address: str) -> str:
    """Render the element for the clip whose files are below this address."""
    return f'<ovi-save address="{escape(address)}"></ovi-save>'


def saving_head() -> str:
    """Return the script that defines the element, for the page's head."""
    return head_script([Path(__file__).with_name("saving.js")], {"WORDS": WORDS})
