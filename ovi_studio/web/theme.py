"""The page's theme, as arguments of `launch()`: Gradio's variables from the tokens, light and dark.

Fonts are bundled or the system's own; nothing is fetched from anywhere.
"""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr

from ovi_studio.web.document import serve_own_document
from ovi_studio.web.tabs.registry import TABS, Tab
from ovi_studio.web.tokens import BATCH_COLOURS, DARK, LIGHT, Palette, css_of

_STYLESHEETS = ("page.css", "header/header.css", "header/navigation.css", "toasts/toasts.css", "keyboard/keyboard.css")
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
    """Set Gradio's theme variables for its light and its dark mode, and our own tokens next to them."""
    theme = gr.themes.Base(font=_SANS, font_mono=_MONO, radius_size="lg", spacing_size="md", text_size="md")
    dark = {f"{name}_dark": value for name, value in _colours(DARK).items() if hasattr(theme, f"{name}_dark")}
    theme.set(**_colours(LIGHT), **dark, **_SHAPES)
    theme.custom_css = css_of(LIGHT, ":root") + css_of(DARK, ":root.dark, :root .dark")
    return theme


def _colours(p: Palette) -> dict[str, str]:
    """Map Gradio's variables to the colours of a palette."""
    return {
        "body_background_fill": p.background,
        "body_text_color": p.text,
        "body_text_color_subdued": p.subdued,
        "background_fill_primary": p.panel,
        "background_fill_secondary": p.field,
        "border_color_primary": p.line,
        "border_color_accent": p.accent,
        "border_color_accent_subdued": p.line,
        "color_accent": p.accent,
        "color_accent_soft": p.raised,
        "block_background_fill": p.panel,
        "block_border_color": p.line,
        "block_border_width": "1px",
        "block_shadow": "none",
        "block_info_text_color": p.subdued,
        "block_label_background_fill": p.field,
        "block_label_border_color": p.line,
        "block_label_text_color": p.text,
        "block_title_text_color": p.text,
        "panel_background_fill": p.panel,
        "panel_border_color": p.line,
        "input_background_fill": p.field,
        "input_background_fill_focus": p.field,
        "input_background_fill_hover": p.field,
        "input_border_color": p.line,
        "input_border_color_focus": p.accent,
        "input_border_color_hover": p.strong_line,
        "input_border_width": "1px",
        "input_placeholder_color": p.subdued,
        "input_shadow": "none",
        "input_shadow_focus": "none",
        "checkbox_background_color": p.field,
        "checkbox_background_color_focus": p.field,
        "checkbox_background_color_hover": p.field,
        "checkbox_background_color_selected": p.accent,
        "checkbox_border_color": p.strong_line,
        "checkbox_border_color_focus": p.accent,
        "checkbox_border_color_hover": p.accent,
        "checkbox_border_color_selected": p.accent,
        "checkbox_label_background_fill": p.field,
        "checkbox_label_background_fill_hover": p.raised,
        "checkbox_label_background_fill_selected": p.raised,
        "checkbox_label_border_color": p.line,
        "checkbox_label_border_color_hover": p.strong_line,
        "checkbox_label_border_color_selected": p.accent,
        "checkbox_label_text_color": p.text,
        "checkbox_label_text_color_selected": p.text,
        "button_primary_background_fill": p.fill,
        "button_primary_background_fill_hover": p.fill_hover,
        "button_primary_border_color": "transparent",
        "button_primary_border_color_hover": "transparent",
        "button_primary_text_color": p.on_fill,
        "button_primary_text_color_hover": p.on_fill,
        "button_secondary_background_fill": p.raised,
        "button_secondary_background_fill_hover": p.raised_hover,
        "button_secondary_border_color": "transparent",
        "button_secondary_border_color_hover": "transparent",
        "button_secondary_text_color": p.text,
        "button_secondary_text_color_hover": p.text,
        "slider_color": p.accent,
        "loader_color": p.accent,
        "link_text_color": p.accent,
        "link_text_color_hover": p.accent_hover,
        "link_text_color_active": p.accent,
        "link_text_color_visited": p.accent,
        "code_background_fill": p.field,
        "accordion_text_color": p.text,
        "error_background_fill": p.bad_soft,
        "error_border_color": p.bad_line,
        "error_text_color": p.bad,
        "error_icon_color": p.bad,
    }


def launch_options() -> dict[str, Any]:
    """Return the arguments of `Blocks.launch` for the page, and see to the document that it is served in."""
    serve_own_document()
    here = Path(__file__).parent
    return {
        "theme": build_theme(),
        "css": "\n".join([*map(_icon_rule, TABS), *map(_batch_rule, range(BATCH_COLOURS))]),
        "css_paths": [*(here / name for name in _STYLESHEETS), *(tab.stylesheet for tab in TABS)],
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
