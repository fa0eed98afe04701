"""What the Create tab says about a prompt, its presets and its clips, as HTML. What people typed is escaped here."""

from collections.abc import Sequence
from html import escape

from ovi_studio.presets import Preset
from ovi_studio.prompt_check import Pace, Severity, check_prompt, speech_pace, text_to_rows
from ovi_studio.sources import BadRow
from ovi_studio.ui.views import format_seconds
from ovi_studio.variants import Variant

SHOWN_PROMPTS = 60
_MARKS = {Severity.ERROR: "Mistake", Severity.WARNING: "Careful", Severity.HINT: "Hint"}


def presets_html(presets: Sequence[Preset], notices: Sequence[str] = ()) -> str:
    """Cards; a click on one applies its settings."""
    cards = "".join(
        f'<button type="button" class="card" data-preset="{escape(preset.name)}" title="{escape(preset.description)}">'
        f"<strong>{escape(preset.title)}{_badge(preset.badge)}</strong><span>{escape(preset.description)}</span></button>"
        for preset in presets
    )
    told = "".join(f'<p class="finding warning">{escape(notice)}</p>' for notice in notices)
    return f'<div class="cards" role="group" aria-label="Presets">{cards}</div>{told}'


def _badge(badge: str) -> str:
    return f" <em>{escape(badge)}</em>" if badge else ""


def findings_html(prompt: str, variant: Variant | None) -> str:
    """What is spoken and how fast, and what is wrong with a prompt as it would be queued."""
    if not prompt.strip() or variant is None:
        return ""
    lines = [
        f'<li class="finding {finding.severity}"><b>{_MARKS[finding.severity]}</b>{escape(finding.text)}</li>'
        for finding in check_prompt(prompt, variant.audio_tag)
    ]
    pace = speech_pace(prompt, variant.seconds)
    if pace.pace is not Pace.SILENT:
        kind = {Pace.CALM: "good", Pace.FAST: "warning"}.get(pace.pace, "error")
        said = "".join(
            f"<li>{escape(who) + ': ' if who else ''}<q>{escape(text)}</q></li>" for who, text in text_to_rows(prompt)
        )
        lines.append(f'<li class="finding {kind}"><b>Speech</b>{escape(pace.text)}<ul class="said">{said}</ul></li>')
    return f'<ul class="findings" aria-live="polite">{"".join(lines)}</ul>' if lines else ""


def makes_html(prompts: Sequence[str], seeds: int, seconds: float | None) -> str:
    """How many clips it makes, which ones, and how long that takes."""
    number = len(prompts) * seeds
    time = "Time not measured yet on this machine"
    if seconds is not None:
        each = f" ({format_seconds(seconds)} each)" if number > 1 else ""
        time = f"About {format_seconds(seconds * number)}{each}"
    clips = "Makes 1 clip" if number == 1 else f"Makes {number} clips"
    listed = ""
    if len(prompts) > 1:
        items = "".join(f"<li>{escape(prompt)}</li>" for prompt in prompts[:SHOWN_PROMPTS])
        rest = len(prompts) - SHOWN_PROMPTS
        more = f"<p>and {rest} more</p>" if rest > 0 else ""
        listed = (
            f"<details><summary>{len(prompts)} prompts{f', {seeds} seeds each' if seeds > 1 else ''}</summary>"
            f"<ol>{items}</ol>{more}</details>"
        )
    return f'<div class="makes"><p><strong>{clips}</strong><span>{escape(time)}</span></p>{listed}</div>'


def table_html(number: int, bad_rows: Sequence[BadRow]) -> str:
    """What an uploaded table makes."""
    clips = "1 clip" if number == 1 else f"{number} clips"
    rows = "".join(f"<li>Line {row.line}: {escape(row.reason)}</li>" for row in bad_rows[:20])
    more = f"<p>and {len(bad_rows) - 20} more</p>" if len(bad_rows) > 20 else ""
    bad = f'<ul class="bad-rows">{rows}</ul>{more}' if rows else ""
    head = f"<strong>The table makes {clips}</strong>"
    head += f"<span>{len(bad_rows)} rows are left out</span>" if bad_rows else ""
    return f'<div class="makes"><p>{head}</p>{bad}</div>'


def queued_html(number: int, name: str) -> str:
    """It worked."""
    clips = "1 clip is" if number == 1 else f"{number} clips are"
    batch = f" as “{escape(name)}”" if name.strip() else ""
    return f'<div class="notice good" role="status"><p>{clips} in the queue{batch}.</p></div>'
