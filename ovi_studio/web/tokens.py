"""The colours of the page, once for each mode: everything else names a token, and no colour stands anywhere else.

`theme.py` makes Gradio's variables of them. The tokens of `own_variables`, which Gradio has no variable for, are used
in stylesheets by their own names. All pairs of text and background reach a contrast of 4.5, and what marks a control 3
(WCAG 2.2 AA; `tests/unit/web/test_tokens.py`).
"""

from dataclasses import dataclass


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


BATCH_COLOURS = len(DARK.batches)


def own_variables(palette: Palette) -> dict[str, str]:
    """Return the tokens that Gradio has no variable for, by their names in CSS."""
    names = ("good", "good_soft", "warn", "warn_soft", "bad", "bad_soft", "bad_line", "raised", "strong_line")
    own = {name.replace("_", "-"): getattr(palette, name) for name in (*names, "focus", "scrim", "shadow")}
    return _ALWAYS | own | {f"batch-{number}": colour for number, colour in enumerate(palette.batches)}


def css_of(palette: Palette, selector: str) -> str:
    """Return the rule that sets `own_variables`."""
    lines = "".join(f"  --{name}: {value};\n" for name, value in own_variables(palette).items())
    return f"{selector} {{\n{lines}}}\n"
