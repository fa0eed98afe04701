"""HTML for the Create tab: presets, findings about the prompt, and the clips it makes. User text is escaped here."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ovi_studio.checkpoints.background import DownloadPhase, DownloadState
from ovi_studio.checkpoints.disk import format_bytes
from ovi_studio.core.adapter_stack import Stack
from ovi_studio.core.prompt_check import PaceLevel, Severity, check_prompt, parse_prompt, speech_pace
from ovi_studio.core.prompt_patterns import pattern_warnings
from ovi_studio.core.prompt_repair import repaired_pattern
from ovi_studio.core.prompts import MAX_PROMPT_LENGTH
from ovi_studio.core.requests import Expansion
from ovi_studio.core.variants import Variant
from ovi_studio.services.preset_offers import PresetOffer
from ovi_studio.services.presets import Preset
from ovi_studio.web import texts as common
from ovi_studio.web.public_text import for_page
from ovi_studio.web.tabs.create import texts
from ovi_studio.web.tabs.create.options import shown_value
from ovi_studio.web.views import format_adapter, format_seconds, notice_html

SHOWN_PROMPTS = 60
SHOWN_ROWS = 20
SHOWN_LENGTH = MAX_PROMPT_LENGTH * 3 // 4
"""Characters from which on the length of a prompt is shown."""
_SPLIT = (
    f'<li class="finding repair"><b>{texts.TAGS}</b>{texts.HAS_TAGS} '
    f'<button type="button" class="plain" data-split>{texts.SPLIT}</button></li>'
)


def presets_html(
    found: Sequence[PresetOffer], notices: Sequence[str] = (), download: DownloadState | None = None
) -> str:
    """Render the presets as cards; one that cannot be used says why, and offers its missing files for download."""
    download = download or DownloadState()
    cards = "".join(_card(offer, download) for offer in found if offer.usable)
    messages = "".join(f'<p class="finding warning">{escape(for_page(notice))}</p>' for notice in notices)
    if download.phase is DownloadPhase.FAILED:
        messages = notice_html(download.reason, texts.download_failed(download.variant)) + messages
    lacking = _unusable_html([offer for offer in found if not offer.usable], download)
    return f'<div class="cards" role="group" aria-label="{texts.PRESETS}">{cards}</div>{lacking}{messages}'


def _unusable_html(found: Sequence[PresetOffer], download: DownloadState) -> str:
    """Render the presets that cannot be used, collapsed unless one of them is being downloaded."""
    if not found:
        return ""
    fetching = download.busy and download.variant in [offer.preset.title for offer in found]
    cards = "".join(_card(offer, download) for offer in found)
    return (
        f'<details class="lacking-presets"{" open" if fetching else ""}><summary>'
        f'{texts.lacking(len(found))}</summary><div class="cards" role="group" aria-label="{texts.LACKING_PRESETS}">'
        f"{cards}</div></details>"
    )


def _card(offer: PresetOffer, download: DownloadState) -> str:
    preset = offer.preset
    name, title = escape(preset.name), escape(preset.title)
    content = f"<strong>{title}{_badge(preset.badge)}</strong><span>{escape(preset.description)}</span>"
    if not offer.usable:
        content += f'<span class="why">{escape(for_page(offer.problem))}</span>{_remedy(offer, download)}'
        card = f'<div class="card lacking" data-lacking="{name}" aria-label="{texts.unusable(title)}" role="group">'
        return f"{card}{content}{_licence(offer)}{_delete(offer)}</div>"
    values = escape(json.dumps(form_values(preset), ensure_ascii=False))
    button = (
        f'<button type="button" class="card" data-preset="{name}" data-values="{values}" '
        f'title="{escape(preset.description)}" aria-pressed="false">{content}</button>'
    )
    extra = _licence(offer) + _delete(offer)
    return f'<div class="preset">{button}{extra}</div>' if extra else button


def form_values(preset: Preset) -> Mapping[str, Any]:
    """Return the values that a preset gives to components of the form, by which the page sees that it is in use."""
    given = {name: shown_value(name, value) for name, value in preset.settings.items() if name != "size"}
    return {"timesteps": "", **given} if "steps" in given else given


def _remedy(offer: PresetOffer, download: DownloadState) -> str:
    """Render a button that downloads the missing files, or the progress of that download."""
    missing = offer.shortage
    if missing is None or not missing.sources:
        return ""
    if download.busy and download.variant == offer.preset.title:
        done, total = (download.progress.done, download.progress.total) if download.progress else (0, 0)
        percent = 100 * done // total if total else 0
        amount = texts.amount(format_bytes(done), format_bytes(total)) if total else texts.CONTACTING_HUB
        return (
            f'<span class="bar" role="progressbar" aria-label="{texts.DOWNLOAD_BAR}" aria-valuemin="0" '
            f'aria-valuemax="100" aria-valuenow="{percent}"><i style="width:{percent}%"></i></span>'
            f'<span class="fetch">{amount}<button type="button" data-stop>{texts.STOP_DOWNLOAD}</button></span>'
        )
    words = texts.DOWNLOAD.format(size=format_bytes(missing.size)) if missing.size else texts.DOWNLOAD_BAR
    return f'<button type="button" class="fetch" data-download="{escape(offer.preset.name)}">{words}</button>'


def _licence(offer: PresetOffer) -> str:
    """Render the licences of a preset's adapters."""
    licences = sorted({source.licence for source in offer.preset.sources.values()})
    return f'<span class="licence">{escape(texts.licence(", ".join(licences)))}</span>' if licences else ""


def _delete(offer: PresetOffer) -> str:
    if not offer.preset.own:
        return ""
    title, name = escape(offer.preset.title), escape(offer.preset.name)
    label = texts.delete_preset(title)
    return (
        f'<button type="button" class="drop" data-delete="{name}" aria-label="{label}">{texts.DELETE_PRESET}</button>'
    )


def chosen_html(accelerators: Stack, adapters: Stack) -> str:
    """Render the form's adapters, each with a button that removes it."""
    lists = (("accelerators", texts.ACCELERATOR, accelerators), ("adapters", texts.STYLE, adapters))
    chips = "".join(
        f'<li><span class="kind">{kind}</span><span>{escape(format_adapter(use))}</span><button type="button" '
        f'data-remove="{name}" data-name="{escape(use.name)}" aria-label="{escape(texts.remove(use.name))}">×'
        "</button></li>"
        for name, kind, uses in lists
        for use in uses
    )
    return f'<ul class="clip-loras" aria-label="{texts.CLIP_LORAS}">{chips}</ul>' if chips else ""


def _badge(badge: str) -> str:
    return f" <em>{escape(badge)}</em>" if badge else ""


def findings_html(pattern: str, prompts: Sequence[str], variant: Variant | None, *, splits: bool = False) -> str:
    """Render the findings about a pattern and its prompts, and the pace of its speech.

    A finding that several prompts share is shown once; the speech is that of the prompt with the fastest one. With
    `splits` the text can be taken apart into the fields of the form, which a button does.
    """
    if not pattern.strip() or variant is None:
        return ""
    found = dict.fromkeys((Severity.WARNING, sentence) for sentence in pattern_warnings(pattern))
    for prompt in prompts:
        found |= dict.fromkeys((one.severity, one.text) for one in check_prompt(prompt, variant.audio_tag))
    lines = [
        f'<li class="finding {severity}"><b>{texts.MARKS[severity]}</b>{escape(text)}</li>' for severity, text in found
    ]
    lines.append(_repair_html(pattern, variant))
    lines.append(_SPLIT if splits else "")
    lines.append(_speech_html(prompts, variant))
    lines.append(_length_html(pattern))
    shown = "".join(lines)
    return f'<ul class="findings" aria-live="polite">{shown}</ul>' if shown else ""


def picture_notes_html(notes: Sequence[str]) -> str:
    """Render how the first frame was read; empty without notes."""
    lines = "".join(f'<li class="finding hint"><b>{common.FIRST_FRAME}</b>{escape(note)}</li>' for note in notes)
    return f'<ul class="findings" aria-live="polite">{lines}</ul>' if lines else ""


def _repair_html(pattern: str, variant: Variant) -> str:
    """Render the right form of a pattern whose tags are wrong, with a button that writes it into the form."""
    form = repaired_pattern(pattern, variant.audio_tag)
    if form == pattern:
        return ""
    button = f'<button type="button" class="plain" data-repair>{texts.REPAIR}</button>'
    return f'<li class="finding repair"><b>{texts.RIGHT_FORM}</b><q>{escape(form)}</q>{button}</li>'


def _speech_html(prompts: Sequence[str], variant: Variant) -> str:
    """Render the pace of the prompt in which speech is fastest, and as data that of each row up to its end."""
    paces = [speech_pace(prompt, variant.seconds) for prompt in prompts]
    fastest = max(range(len(paces)), key=lambda index: paces[index].words)
    pace = paces[fastest]
    if pace.pace is PaceLevel.SILENT:
        return ""
    kind = pace.severity or "good"
    rows = escape(json.dumps(row_paces(prompts[fastest], variant.seconds), ensure_ascii=False))
    return f'<li class="finding {kind}" data-paces="{rows}"><b>{texts.SPEECH}</b>{escape(pace.text)}</li>'


def row_paces(prompt: str, seconds: float) -> list[dict[str, str]]:
    """Return for each speech of a prompt how fast it and all before it have to be spoken in the whole clip."""
    spoken = parse_prompt(prompt).speech
    paces = [speech_pace(spoken[: number + 1], seconds) for number in range(len(spoken))]
    return [
        {"level": pace.pace, "short": texts.pace(pace.words / seconds, pace.pace), "text": pace.text} for pace in paces
    ]


def _length_html(pattern: str) -> str:
    """Render how much of the longest possible prompt is used, once it is most of it."""
    if len(pattern) < SHOWN_LENGTH:
        return ""
    kind = "error" if len(pattern) > MAX_PROMPT_LENGTH else "hint"
    words = texts.characters(len(pattern), MAX_PROMPT_LENGTH)
    return f'<li class="finding {kind}"><b>{texts.LENGTH}</b>{words}</li>'


def makes_html(prompts: Sequence[str], seeds: int, seconds: float | None, whole: float | None) -> str:
    """Render which clips the prompts make, and how long one of them and all take."""
    number = len(prompts) * seeds
    time = texts.NOT_MEASURED
    if seconds is not None and whole is not None:
        time = texts.takes(format_seconds(whole), format_seconds(seconds) if number > 1 else "")
    listed = ""
    if len(prompts) > 1:
        items = "".join(f"<li>{escape(prompt)}</li>" for prompt in prompts[:SHOWN_PROMPTS])
        rest = len(prompts) - SHOWN_PROMPTS
        more = f"<p>{texts.and_more(rest)}</p>" if rest > 0 else ""
        listed = f"<details><summary>{texts.prompts(len(prompts), seeds)}</summary><ol>{items}</ol>{more}</details>"
    return f'<div class="makes"><p><strong>{texts.makes(number)}</strong><span>{escape(time)}</span></p>{listed}</div>'


def table_html(clips: Expansion) -> str:
    """Render which clips an uploaded table makes."""
    bad_rows = clips.bad_rows
    head = f"<strong>{texts.table_makes(len(clips.specs))}</strong>"
    head += f"<span>{texts.skipped(len(bad_rows))}</span>" if bad_rows else ""
    bad = _rows_html("bad-rows", [texts.bad_row(row.line, for_page(row.reason)) for row in bad_rows])
    warned = _rows_html("warned-rows", [*clips.notes, *(texts.warning(str(warning)) for warning in clips.warnings)])
    return f'<div class="makes"><p>{head}</p>{bad}{warned}</div>'


def _rows_html(kind: str, sentences: Sequence[str]) -> str:
    """Render a list of sentences about rows, cut off after `SHOWN_ROWS`."""
    if not sentences:
        return ""
    rows = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences[:SHOWN_ROWS])
    rest = len(sentences) - SHOWN_ROWS
    return f'<ul class="{kind}">{rows}</ul>' + (f"<p>{texts.and_more(rest)}</p>" if rest > 0 else "")


def queued_html(number: int, name: str, notes: Sequence[str] = ()) -> str:
    """Confirm how many clips were queued, with notes about how their table or picture was understood."""
    words = escape(texts.in_queue(number, name.strip()))
    said = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return f'<div class="notice good" role="status"><p>{words}</p>{said}</div>'
