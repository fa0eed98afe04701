"""The player of clips as elements of the page: `<ovi-player>` with waveform and spectrogram, `<ovi-compare>` in step.

Both are custom elements, so that any tab may put them into its HTML; `player_head` defines them. What they draw is in
a shadow root, which Gradio's updates of the HTML around them leave alone.
"""

from pathlib import Path

from ovi_studio.core.variants import FRAME_RATE
from ovi_studio.web.player.texts import WORDS
from ovi_studio.web.scripts import head_script

_HERE = Path(__file__).parent
_SCRIPTS = ("controls.js", "soundtrack.js", "player.js", "compare.js")
_STYLESHEETS = ("controls.css", "player.css", "compare.css")


def player_head() -> str:
    """Return the script that defines the elements, for the page's head."""
    styles = {name.removesuffix(".css"): (_HERE / name).read_text(encoding="utf-8") for name in _STYLESHEETS}
    constants = {"STYLES": styles, "WORDS": WORDS, "FRAME_RATE": FRAME_RATE}
    return head_script([_HERE / name for name in _SCRIPTS], constants)
