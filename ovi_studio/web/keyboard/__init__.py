"""The dialog of all keyboard shortcuts, which `?` opens, and those of the whole page.

A tab lists its own in its entry of `TABS`; the dialog shows whatever is listed, and nothing else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import gradio as gr

from ovi_studio.web.keyboard import texts


@dataclass(frozen=True)
class Shortcut:
    """A key or a combination of keys, and what it does."""

    keys: str
    """As people write it, as in `Ctrl+Enter`; alternatives are separated by spaces."""
    what: str


EVERYWHERE = (
    Shortcut("?", texts.SHOW),
    Shortcut("[ ]", texts.NEXT_TAB),
    Shortcut("Ctrl+Z", texts.UNDO),
    Shortcut("Esc", texts.CLOSE_DIALOG),
)


def build_keyboard(tabs: Mapping[str, Sequence[Shortcut]]) -> None:
    """Build the dialog with the shortcuts of each tab, by its title."""
    script = (Path(__file__).parent / "keyboard.js").read_text(encoding="utf-8")
    gr.HTML(
        _dialog({texts.EVERYWHERE: EVERYWHERE, **tabs}), js_on_load=script, elem_id="keyboard", apply_default_css=False
    )


def _dialog(groups: Mapping[str, Sequence[Shortcut]]) -> str:
    sections = "".join(_section(title, shortcuts) for title, shortcuts in groups.items() if shortcuts)
    return (
        '<dialog id="shortcuts" aria-labelledby="shortcuts-title"><div class="head">'
        f'<h2 id="shortcuts-title">{texts.TITLE}</h2>'
        f'<button type="button" class="close" aria-label="{texts.CLOSE}">×</button></div>'
        f'<div class="groups">{sections}</div></dialog>'
    )


def _section(title: str, shortcuts: Sequence[Shortcut]) -> str:
    rows = "".join(
        f"<div><dt>{' '.join(map(_keys, shortcut.keys.split()))}</dt><dd>{escape(shortcut.what)}</dd></div>"
        for shortcut in shortcuts
    )
    return f"<section><h3>{escape(title)}</h3><dl>{rows}</dl></section>"


def _keys(combination: str) -> str:
    return "+".join(f"<kbd>{escape(key)}</kbd>" for key in combination.split("+"))
