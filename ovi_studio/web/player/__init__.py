"""The player of clips as elements of the page: `<ovi-player>` with waveform and spectrogram, `<ovi-compare>` in step.

Both are custom elements, so that any tab may put them into its HTML; `player_head` defines them. What they draw is in
a shadow root, which Gradio's updates of the HTML around them leave alone.
"""

import json
from html import escape
from pathlib import Path

from ovi_studio.core.variants import FRAME_RATE
from ovi_studio.web.keyboard import Shortcut

PLAYER_SHORTCUTS = (
    Shortcut("Space K", "Play or pause the clip"),
    Shortcut(", .", "Previous or next frame"),
    Shortcut("← →", "A second back or forward"),
    Shortcut("< >", "Slower or faster"),
    Shortcut("L", "Loop"),
    Shortcut("M", "Mute"),
    Shortcut("S", "Waveform or spectrogram"),
    Shortcut("F", "Full screen"),
)
"""What the player does with keys."""
_SCRIPTS = ("controls.js", "soundtrack.js", "player.js", "compare.js")
_STYLESHEETS = ("controls.css", "player.css", "compare.css")


def player_html(address: str, label: str, *, autoplay: bool = False) -> str:
    """Render the player of a clip.

    Args:
        address: of the clip's files in `media_routes`, such as `studio/clip/<id>`.
        label: what a screen reader calls the clip; escaped here.
    """
    more = " autoplay" if autoplay else ""
    return f'<ovi-player address="{escape(address)}" label="{escape(label)}"{more}></ovi-player>'


def player_head() -> str:
    """Return the script that defines the elements, for the page's head."""
    here = Path(__file__).parent
    styles = {name.removesuffix(".css"): (here / name).read_text(encoding="utf-8") for name in _STYLESHEETS}
    constants = f"const STYLES = {json.dumps(styles)};\nconst FRAME_RATE = {FRAME_RATE};"
    scripts = "\n".join((here / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    return f"<script>(() => {{\n{constants}\n{scripts}\n}})();</script>"
