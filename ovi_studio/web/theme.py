"""The page's theme, as arguments of `launch()`: Gradio's variables from the tokens, light and dark.

Fonts are bundled or the system's own; nothing is fetched from anywhere.
"""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr

from ovi_studio.web.document import serve_own_document
from ovi_studio.web.player import player_head
from ovi_studio.web.saving import saving_head
from ovi_studio.web.tabs.registry import TABS, Tab
from ovi_studio.web.tokens import BATCH_COLOURS, DARK, LIGHT, gradio_variables

_STYLESHEETS = (
    "page.css",
    "controls.css",
    "header/header.css",
    "header/navigation.css",
    "toasts/toasts.css",
    "keyboard/keyboard.css",
    "drop/drop.css",
    "improving/improving.css",
)
"""The page's own stylesheets, which come first: those of the tabs build on them."""
_SCRIPTS = ("page.js", "header/news.js", "header/away.js")
"""Functions that run when the page has been built; scripts of components come with them."""
_SANS = ["Inter", "ui-sans-serif", "system-ui", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif"]
_MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]


_SHAPES = {
    "body_text_size": "15px",
    "block_title_text_size": "13px",
    "block_title_text_weight": "600",
    "block_label_text_size": "13px",
    "block_label_text_weight": "600",
    "block_info_text_size": "13px",
    "block_radius": "14px",
    "input_radius": "10px",
    "button_large_radius": "12px",
    "button_large_text_size": "16px",
    "button_large_text_weight": "650",
    "button_large_padding": "12px 22px",
    "checkbox_label_padding": "8px 12px",
}


def build_theme() -> gr.themes.Base:
    """Set Gradio's theme variables for its light and its dark mode, from the tokens."""
    theme = gr.themes.Base(font=_SANS, font_mono=_MONO, radius_size="lg", spacing_size="md", text_size="md")
    dark = {f"{name}_dark": value for name, value in gradio_variables(DARK).items() if hasattr(theme, f"{name}_dark")}
    theme.set(**gradio_variables(LIGHT), **dark, **_SHAPES)
    return theme


def launch_options() -> dict[str, Any]:
    """Return the arguments of `Blocks.launch` for the page, and see to the document that it is served in."""
    serve_own_document()
    here = Path(__file__).parent
    return {
        "theme": build_theme(),
        "css": "\n".join([*map(_icon_rule, TABS), *map(_batch_rule, range(BATCH_COLOURS))]),
        "css_paths": [*(here / name for name in _STYLESHEETS), *(path for tab in TABS for path in tab.stylesheets)],
        "head": player_head() + saving_head(),
        "js": "() => {" + "".join(f"({(here / name).read_text(encoding='utf-8')})();" for name in _SCRIPTS) + "}",
        "footer_links": [],
    }


def _icon_rule(tab: Tab) -> str:
    """Return the CSS rule for a tab's icon, which `navigation.css` draws in the colour of the button's text."""
    svg = (
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill='none' stroke='#000' stroke-width='2' "
        f"stroke-linecap='round' stroke-linejoin='round'><path d='{tab.icon}'/></svg>"
    )
    return f'#tabs [data-tab-id="{tab.id}"] {{ --icon: url("data:image/svg+xml,{quote(svg)}"); }}'


def _batch_rule(number: int) -> str:
    """Return the CSS rule for what belongs to a batch of this colour."""
    return f".batch-{number} {{ --own: var(--batch-{number}); }}"
