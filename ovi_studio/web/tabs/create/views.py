"""What the Create tab says about a prompt, its presets and its clips, as HTML. What people typed is escaped here."""

from collections.abc import Sequence
from html import escape

from ovi_studio.checkpoints.background import DownloadPhase, DownloadState
from ovi_studio.checkpoints.download import format_bytes
from ovi_studio.core.adapter_stack import Stack
from ovi_studio.core.prompt_check import PaceLevel, Severity, check_prompt, speech_pace, text_to_rows
from ovi_studio.core.prompt_patterns import pattern_warnings
from ovi_studio.core.requests import Expansion
from ovi_studio.core.variants import Variant
from ovi_studio.services.preset_offers import PresetOffer
from ovi_studio.web.views import format_seconds, notice_html, use_words

SHOWN_PROMPTS = 60
SHOWN_ROWS = 20
_MARKS = {Severity.ERROR: "Mistake", Severity.WARNING: "Careful", Severity.HINT: "Hint"}


def presets_html(
    found: Sequence[PresetOffer], notices: Sequence[str] = (), download: DownloadState | None = None
) -> str:
    """Cards; a click on one applies its settings. What cannot be used says why, and offers what it lacks."""
    download = download or DownloadState()
    cards = "".join(_card(offer, download) for offer in found if offer.usable)
    told = "".join(f'<p class="finding warning">{escape(notice)}</p>' for notice in notices)
    if download.phase is DownloadPhase.FAILED:
        told = notice_html(download.reason, f"{download.variant}: the download failed") + told
    lacking = _lacking([offer for offer in found if not offer.usable], download)
    return f'<div class="cards" role="group" aria-label="Presets">{cards}</div>{lacking}{told}'


def _lacking(found: Sequence[PresetOffer], download: DownloadState) -> str:
    """The presets that cannot be used, folded away unless one of them is being fetched."""
    if not found:
        return ""
    fetching = download.busy and download.variant in [offer.preset.title for offer in found]
    many = "1 more preset needs" if len(found) == 1 else f"{len(found)} more presets need"
    cards = "".join(_card(offer, download) for offer in found)
    return (
        f'<details class="lacking-presets"{" open" if fetching else ""}><summary>{many} a LoRA file or another model'
        f'</summary><div class="cards" role="group" aria-label="Presets that lack something">{cards}</div></details>'
    )


def _card(offer: PresetOffer, download: DownloadState) -> str:
    preset = offer.preset
    name, title = escape(preset.name), escape(preset.title)
    content = f"<strong>{title}{_badge(preset.badge)}</strong><span>{escape(preset.description)}</span>"
    if not offer.usable:
        content += f'<span class="why">{escape(offer.problem)}</span>{_remedy(offer, download)}'
        card = f'<div class="card lacking" data-lacking="{name}" aria-label="{title}, cannot be used" role="group">'
        return f"{card}{content}{_licence(offer)}{_delete(offer)}</div>"
    button = f'<button type="button" class="card" data-preset="{name}">{content}</button>'
    extra = _licence(offer) + _delete(offer)
    return f'<div class="preset">{button}{extra}</div>' if extra else button


def _remedy(offer: PresetOffer, download: DownloadState) -> str:
    """A button that fetches what is missing, or how far that is."""
    lack = offer.shortage
    if lack is None or not lack.sources:
        return ""
    if download.busy and download.variant == offer.preset.title:
        done, total = (download.progress.done, download.progress.total) if download.progress else (0, 0)
        percent = 100 * done // total if total else 0
        amount = f"{format_bytes(done)} of {format_bytes(total)}" if total else "Asking the hub"
        return (
            f'<span class="bar" role="progressbar" aria-label="Download" aria-valuemin="0" aria-valuemax="100" '
            f'aria-valuenow="{percent}"><i style="width:{percent}%"></i></span><span class="fetch">{amount}'
            '<button type="button" data-stop>Stop</button></span>'
        )
    size = f" {format_bytes(lack.size)}" if lack.size else ""
    return f'<button type="button" class="fetch" data-download="{escape(offer.preset.name)}">Download{size}</button>'


def _licence(offer: PresetOffer) -> str:
    """Under which terms its adapters may be used."""
    licences = sorted({source.licence for source in offer.preset.sources.values()})
    return f'<span class="licence">Licence: {escape(", ".join(licences))}</span>' if licences else ""


def _delete(offer: PresetOffer) -> str:
    if not offer.preset.own:
        return ""
    title, name = escape(offer.preset.title), escape(offer.preset.name)
    label = f"Delete the preset {title}"
    return f'<button type="button" class="drop" data-delete="{name}" aria-label="{label}">Delete</button>'


def chosen_html(accelerators: Stack, adapters: Stack) -> str:
    """The adapters of the clip that the form describes, each of which can be taken out."""
    lists = (("accelerators", "Accelerator", accelerators), ("adapters", "Style", adapters))
    chips = "".join(
        f'<li><span class="kind">{kind}</span><span>{escape(use_words(use))}</span><button type="button" '
        f'data-remove="{name}" data-name="{escape(use.name)}" aria-label="Take out {escape(use.name)}">×</button></li>'
        for name, kind, uses in lists
        for use in uses
    )
    return f'<ul class="clip-loras" aria-label="LoRA files of this clip">{chips}</ul>' if chips else ""


def _badge(badge: str) -> str:
    return f" <em>{escape(badge)}</em>" if badge else ""


def findings_html(pattern: str, prompts: Sequence[str], variant: Variant | None) -> str:
    """What is spoken and how fast, and what is wrong with a pattern and with the prompts that it makes.

    What several prompts have in common is said once; the speech is that of the prompt in which it is fastest.
    """
    if not pattern.strip() or variant is None:
        return ""
    found = dict.fromkeys((Severity.WARNING, sentence) for sentence in pattern_warnings(pattern))
    for prompt in prompts:
        found |= dict.fromkeys((one.severity, one.text) for one in check_prompt(prompt, variant.audio_tag))
    lines = [f'<li class="finding {severity}"><b>{_MARKS[severity]}</b>{escape(text)}</li>' for severity, text in found]
    lines.append(_speech_html(prompts, variant))
    shown = "".join(lines)
    return f'<ul class="findings" aria-live="polite">{shown}</ul>' if shown else ""


def _speech_html(prompts: Sequence[str], variant: Variant) -> str:
    """What is spoken in the prompt in which people speak fastest."""
    paces = [speech_pace(prompt, variant.seconds) for prompt in prompts]
    fastest = max(range(len(paces)), key=lambda index: paces[index].words)
    pace = paces[fastest]
    if pace.pace is PaceLevel.SILENT:
        return ""
    said = "".join(
        f"<li>{escape(who) + ': ' if who else ''}<q>{escape(text)}</q></li>"
        for who, text in text_to_rows(prompts[fastest])
    )
    kind = pace.severity or "good"
    return f'<li class="finding {kind}"><b>Speech</b>{escape(pace.text)}<ul class="said">{said}</ul></li>'


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


def table_html(clips: Expansion) -> str:
    """What an uploaded table makes."""
    number, bad_rows = len(clips.specs), clips.bad_rows
    head = f"<strong>The table makes {'1 clip' if number == 1 else f'{number} clips'}</strong>"
    left_out = "1 row is" if len(bad_rows) == 1 else f"{len(bad_rows)} rows are"
    head += f"<span>{left_out} left out</span>" if bad_rows else ""
    bad = _rows_html("bad-rows", [f"Line {row.line}: {row.reason}" for row in bad_rows])
    warned = _rows_html("warned-rows", [*clips.notes, *(f"Careful: {warning}" for warning in clips.warnings)])
    return f'<div class="makes"><p>{head}</p>{bad}{warned}</div>'


def _rows_html(kind: str, sentences: Sequence[str]) -> str:
    """A list of sentences about rows, the first of them if there are many."""
    if not sentences:
        return ""
    rows = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences[:SHOWN_ROWS])
    rest = len(sentences) - SHOWN_ROWS
    return f'<ul class="{kind}">{rows}</ul>' + (f"<p>and {rest} more</p>" if rest > 0 else "")


def queued_html(number: int, name: str) -> str:
    """It worked."""
    clips = "1 clip is" if number == 1 else f"{number} clips are"
    batch = f" as “{escape(name)}”" if name.strip() else ""
    return f'<div class="notice good" role="status"><p>{clips} in the queue{batch}.</p></div>'
