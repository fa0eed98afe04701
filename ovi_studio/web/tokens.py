"""The colours of the page, once for each mode, and its sizes: everything else names a token.

No colour stands anywhere else.

`gradio_variables` makes Gradio's variables of them, which stylesheets use where there is one; `own_variables` are the
tokens by their own names. All pairs of text and background reach a contrast of 4.5, and what marks a control 3 (WCAG
2.2 AA; `tests/unit/web/test_tokens.py`).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Palette:
    """The colours of one mode."""

    background: str
    panel: str
    field: str
    raised: str
    raised_hover: str
    line: str
    strong_line: str
    """What marks a control, such as the border of a checkbox."""
    text: str
    subdued: str
    accent: str
    """Lines, icons, links and text in the accent's colour."""
    accent_hover: str
    fill: str
    """The background of the main button."""
    fill_hover: str
    on_fill: str
    focus: str
    good: str
    good_soft: str
    warn: str
    warn_soft: str
    bad: str
    bad_soft: str
    bad_line: str
    scrim: str
    """Behind a dialog."""
    shadow: str
    batches: tuple[str, ...]
    """Told apart at a glance; a batch's name always stands next to its colour."""


DARK = Palette(
    background="#0e0f13",
    panel="#16181e",
    field="#1e2129",
    raised="#272b35",
    raised_hover="#323744",
    line="#2c313c",
    strong_line="#757d8f",
    text="#eceef2",
    subdued="#a8afbc",
    accent="#ff9d66",
    accent_hover="#ffb084",
    fill="#ff9d66",
    fill_hover="#ffb084",
    on_fill="#1f0f05",
    focus="#ffc9a8",
    good="#8fe0b0",
    good_soft="#18321f",
    warn="#ffd675",
    warn_soft="#4a3a12",
    bad="#ff8f8f",
    bad_soft="#2a1719",
    bad_line="#8a3a3e",
    scrim="#0009",
    shadow="0 8px 30px #0009",
    batches=("#7db4ff", "#5fd0c5", "#c79bff", "#f2c14e", "#ff8fb5", "#8fe07a", "#ff9d66", "#9fb0c8"),
)

LIGHT = Palette(
    background="#f4f4f6",
    panel="#ffffff",
    field="#f1f2f5",
    raised="#e6e8ed",
    raised_hover="#d9dce4",
    line="#d8dbe2",
    strong_line="#7b8394",
    text="#1b1e25",
    subdued="#555c6b",
    accent="#a8430b",
    accent_hover="#853406",
    fill="#b84a0c",
    fill_hover="#9a3d08",
    on_fill="#ffffff",
    focus="#a8430b",
    good="#14633a",
    good_soft="#d9f2e3",
    warn="#735000",
    warn_soft="#fdeec4",
    bad="#b3242b",
    bad_soft="#fdeaea",
    bad_line="#e3a3a6",
    scrim="#1b1e2580",
    shadow="0 8px 30px #1b1e2533",
    batches=("#2f6fd0", "#0f7d74", "#7d45c9", "#8a6500", "#b93669", "#3f7d22", "#b84a0c", "#56657d"),
)


_ALWAYS = {"film": "#000", "over-picture": "#0e0f13d9", "on-picture": "#fff"}
"""Behind a video, and on top of pictures: the same in both modes."""


_SIZES = {
    "font-s": "12.5px",
    "font-m": "13.5px",
    "font-l": "14px",
    "font-xl": "15px",
    "radius-s": "9px",
    "radius-m": "12px",
    "radius-l": "14px",
    "button": "40px",
    "tool": "36px",
}
"""Of text, of corners, and the heights of buttons: those on a line of their own, and those in a row of many."""
_TOUCH = {"button": "44px", "tool": "44px"}


BATCH_COLOURS = len(DARK.batches)


def own_variables(palette: Palette) -> dict[str, str]:
    """Return the tokens by their names in CSS."""
    own = {name.replace("_", "-"): value for name, value in asdict(palette).items() if name != "batches"}
    return _ALWAYS | own | {f"batch-{number}": colour for number, colour in enumerate(palette.batches)}


def token_rules() -> str:
    """Return the CSS rules of the tokens of both modes, and of buttons for a mouse and for fingers.

    Gradio (6.31) has one value of its accent for both modes and sets it on `body.dark`, too, so it is set again for the
    dark one, by selectors that come before Gradio's.
    """
    dark = own_variables(DARK) | {"color-accent": DARK.accent}
    light = own_variables(LIGHT) | _SIZES
    touch = f"@media (pointer: coarse) {{ {_rule(':root', _TOUCH)} }}"
    return _rule(":root", light) + _rule(":root.dark.dark, :root.dark.dark body", dark) + touch


def _rule(selector: str, variables: Mapping[str, str]) -> str:
    return f"{selector} {{ {''.join(f'--{name}: {value}; ' for name, value in variables.items())}}}"


def gradio_variables(p: Palette) -> dict[str, str]:
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
