"""The page's theme, as arguments of `launch()`. Always dark, since clips are judged best on dark grey.

Fonts are the system's own; nothing is fetched from anywhere.
"""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr

from ovi_studio.web.tabs.registry import TABS, Tab

ACCENT = "#ff9d66"
_ON_ACCENT = "#1f0f05"
_BACKGROUND = "#0e0f13"
_PANEL = "#16181e"
_FIELD = "#1e2129"
_RAISED = "#272b35"
_LINE = "#2c313c"
_TEXT = "#eceef2"
_SUBDUED = "#a3aab8"
_BAD = "#ff8080"

_STYLESHEETS = ("page.css", "header.css", "navigation.css")
"""The page's own stylesheets, which come first: those of the tabs build on them."""
_SANS = ["Inter", "ui-sans-serif", "system-ui", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif"]
_MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]


def build_theme() -> gr.themes.Base:
    """Set Gradio's theme variables, with the same values for its light and its dark mode."""
    theme = gr.themes.Base(font=_SANS, font_mono=_MONO, radius_size="lg", spacing_size="md", text_size="md")
    colours = {
        "body_background_fill": _BACKGROUND,
        "body_text_color": _TEXT,
        "body_text_color_subdued": _SUBDUED,
        "background_fill_primary": _PANEL,
        "background_fill_secondary": _FIELD,
        "border_color_primary": _LINE,
        "border_color_accent": ACCENT,
        "border_color_accent_subdued": _LINE,
        "color_accent": ACCENT,
        "color_accent_soft": _RAISED,
        "block_background_fill": _PANEL,
        "block_border_color": _LINE,
        "block_border_width": "1px",
        "block_shadow": "none",
        "block_info_text_color": _SUBDUED,
        "block_label_background_fill": _FIELD,
        "block_label_border_color": _LINE,
        "block_label_text_color": _TEXT,
        "block_title_text_color": _TEXT,
        "panel_background_fill": _PANEL,
        "panel_border_color": _LINE,
        "input_background_fill": _FIELD,
        "input_background_fill_focus": _FIELD,
        "input_background_fill_hover": _FIELD,
        "input_border_color": _LINE,
        "input_border_color_focus": ACCENT,
        "input_border_color_hover": "#3d4452",
        "input_border_width": "1px",
        "input_placeholder_color": "#8b93a3",
        "input_shadow": "none",
        "input_shadow_focus": "0 0 0 3px #ff9d6633",
        "checkbox_background_color": _FIELD,
        "checkbox_background_color_focus": _FIELD,
        "checkbox_background_color_hover": _FIELD,
        "checkbox_background_color_selected": ACCENT,
        "checkbox_border_color": "#6b7385",
        "checkbox_border_color_focus": ACCENT,
        "checkbox_border_color_hover": ACCENT,
        "checkbox_border_color_selected": ACCENT,
        "checkbox_label_background_fill": _FIELD,
        "checkbox_label_background_fill_hover": _RAISED,
        "checkbox_label_background_fill_selected": _RAISED,
        "checkbox_label_border_color": _LINE,
        "checkbox_label_border_color_hover": "#3d4452",
        "checkbox_label_border_color_selected": ACCENT,
        "checkbox_label_text_color": _TEXT,
        "checkbox_label_text_color_selected": _TEXT,
        "button_primary_background_fill": ACCENT,
        "button_primary_background_fill_hover": "#ffb084",
        "button_primary_border_color": "transparent",
        "button_primary_border_color_hover": "transparent",
        "button_primary_text_color": _ON_ACCENT,
        "button_primary_text_color_hover": _ON_ACCENT,
        "button_secondary_background_fill": _RAISED,
        "button_secondary_background_fill_hover": "#323744",
        "button_secondary_border_color": "transparent",
        "button_secondary_border_color_hover": "transparent",
        "button_secondary_text_color": _TEXT,
        "button_secondary_text_color_hover": _TEXT,
        "slider_color": ACCENT,
        "loader_color": ACCENT,
        "link_text_color": ACCENT,
        "link_text_color_hover": "#ffb084",
        "link_text_color_active": ACCENT,
        "link_text_color_visited": ACCENT,
        "code_background_fill": _FIELD,
        "accordion_text_color": _TEXT,
        "error_background_fill": "#2a1719",
        "error_border_color": "#7a3236",
        "error_text_color": _BAD,
        "error_icon_color": _BAD,
    }
    both = dict(colours)
    for name, value in colours.items():
        if hasattr(theme, f"{name}_dark"):
            both[f"{name}_dark"] = value
    return theme.set(
        **both,
        body_text_size="15px",
        block_title_text_size="13px",
        block_title_text_weight="600",
        block_label_text_size="13px",
        block_label_text_weight="600",
        block_info_text_size="13px",
        block_radius="14px",
        input_radius="10px",
        button_large_radius="12px",
        button_large_text_size="16px",
        button_large_text_weight="650",
        button_large_padding="12px 22px",
        checkbox_label_padding="8px 12px",
    )


def launch_options() -> dict[str, Any]:
    """Return the arguments of `Blocks.launch` for the page."""
    here = Path(__file__).parent
    return {
        "theme": build_theme(),
        "css": "\n".join(map(_icon_rule, TABS)),
        "css_paths": [*(here / name for name in _STYLESHEETS), *(tab.stylesheet for tab in TABS)],
        "js": (here / "page.js").read_text(encoding="utf-8"),
        "footer_links": [],
    }


def _icon_rule(tab: Tab) -> str:
    """Return the CSS rule for a tab's icon, which `navigation.css` draws in the colour of the button's text."""
    svg = (
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill='none' stroke='#000' stroke-width='2' "
        f"stroke-linecap='round' stroke-linejoin='round'><path d='{tab.icon}'/></svg>"
    )
    return f'#tabs [data-tab-id="{tab.id}"] {{ --icon: url("data:image/svg+xml,{quote(svg)}"); }}'
