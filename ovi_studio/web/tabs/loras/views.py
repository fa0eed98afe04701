"""HTML for the LoRAs tab. Most text comes from files and users, so everything is escaped here.

The strings are used as values of `gr.HTML`, never in templates (see `job_views`). Previews are requested by id
(`media_routes`).
"""

from collections.abc import Mapping, Sequence
from html import escape

from ovi_studio.adapters.library import AdapterEntry
from ovi_studio.adapters.report import Fit
from ovi_studio.checkpoints.disk import format_bytes
from ovi_studio.core.adapter_stack import AdapterUse, Strength
from ovi_studio.core.towers import TOWERS
from ovi_studio.web.drawn import drawn_html
from ovi_studio.web.public_text import for_page

SLIDER_RANGE = (-1.0, 2.0)
"""The usual range; the text field next to the slider takes any strength, and schedules."""
_SHOWN_WORDS = 12
_TOWER_NAMES = {"video": "Picture", "audio": "Sound"}


def loras_html(
    entries: Sequence[AdapterEntry],
    fits: Mapping[str, Fit],
    uses: Mapping[str, AdapterUse],
    accelerators: Mapping[str, AdapterUse],
) -> str:
    """Render adapters as cards; `fits` is by id, `uses` and `accelerators` are by name."""
    usable = [entry for entry in entries if not entry.problem]
    cards = "".join(
        _card(entry, fits[entry.id], uses.get(entry.name), accelerators.get(entry.name)) for entry in usable
    )
    shown = f'<ul class="loras" aria-label="LoRA files">{cards}</ul>' if usable else ""
    return shown + _rejected([entry for entry in entries if entry.problem])


def _rejected(entries: Sequence[AdapterEntry]) -> str:
    """Render the files that cannot be used as one folded list, each with its reason."""
    if not entries:
        return ""
    files = "1 file in the folder" if len(entries) == 1 else f"{len(entries)} files in the folder"
    rows = "".join(map(_rejected_row, entries))
    return f'<details class="rejected"><summary>{files} cannot be used</summary><ul>{rows}</ul></details>'


def _rejected_row(entry: AdapterEntry) -> str:
    reason = escape(for_page(entry.problem or ""))
    return f"<li><b>{escape(entry.name)}</b><span>{format_bytes(entry.size)}</span><p>{reason}</p></li>"


def empty_html(folder: str | None, searched: bool) -> str:
    """Render a sentence in place of cards; the folder is None where it is not to be told."""
    if searched:
        return '<div class="nothing" role="status"><p>No files match. Use fewer words.</p></div>'
    if folder is None:
        return '<div class="nothing" role="status"><p>There are no LoRA files here.</p></div>'
    return (
        f'<div class="nothing" role="status"><p>Put .safetensors files or PEFT folders into <code>{escape(folder)}'
        "</code>; they appear here automatically.</p></div>"
    )


def summary_html(accelerators: Sequence[AdapterUse], uses: Sequence[AdapterUse]) -> str:
    """Render what the next clip uses, in one line."""
    styles = "no LoRA file" if not uses else "1 LoRA file" if len(uses) == 1 else f"{len(uses)} LoRA files"
    fast = ", ".join(_short(use.name) for use in accelerators)
    more = f" The preset's accelerator is {escape(fast)}." if fast else ""
    return f'<p class="uses" role="status">The next clip uses {styles}.{more}</p>'


def _card(entry: AdapterEntry, fit: Fit, use: AdapterUse | None, accelerator: AdapterUse | None) -> str:
    title = escape(entry.title)
    picture = (
        f'<img src="studio/lora/{entry.id}/preview.jpg?{entry.modified:.0f}" alt="" loading="lazy" decoding="async">'
        if entry.preview
        else drawn_html(entry.name)
    )
    chosen = " chosen" if use else ""
    return (
        f'<li class="lora{chosen}" data-id="{entry.id}"><div class="preview">{picture}</div><div class="body">'
        f"<h2>{title}</h2>{_facts(entry)}{_badge(fit)}{_words(entry)}"
        f"{_controls(entry, fit, use, accelerator)}</div></li>"
    )


def _facts(entry: AdapterEntry) -> str:
    about = entry.description
    facts = [entry.name, format_bytes(entry.size), about.base_model, f"by {about.author}" if about.author else ""]
    licence = f"Licence: {about.licence}" if about.licence else "Licence: not stated in the file"
    text = f'<p class="about">{escape(about.description[:300])}</p>' if about.description else ""
    line = " · ".join(escape(fact) for fact in facts if fact)
    return f'<p class="file">{line}</p>{text}<p class="licence">{escape(licence)}</p>'


def _badge(fit: Fit) -> str:
    kind = "problem" if fit.report is None else "ok" if fit.report.complete and not fit.report.idle else "note"
    return f'<p class="fit"><span class="badge {kind}">{escape(fit.badge)}</span><span>{escape(fit.details)}</span></p>'


def _words(entry: AdapterEntry) -> str:
    """Render each trigger word as a button that adds it to the prompt."""
    words = entry.description.trigger_words[:_SHOWN_WORDS]
    if not words:
        return ""
    chips = "".join(
        f'<button type="button" class="chip" data-act="word" data-number="{number}" '
        f'aria-label="Add “{escape(word)}” to the prompt">{escape(word)}</button>'
        for number, word in enumerate(words)
    )
    return f'<div class="chips" role="group" aria-label="Trigger words of {escape(entry.title)}">{chips}</div>'


def _controls(entry: AdapterEntry, fit: Fit, use: AdapterUse | None, accelerator: AdapterUse | None) -> str:
    title = escape(entry.title)
    if accelerator is not None:
        return '<p class="role">The preset’s accelerator; choose another preset in the Create tab to change it.</p>'
    if use is None:
        if not fit.usable:
            return ""
        return f'<button type="button" class="take" data-act="take" aria-label="Use {title}">Use</button>'
    fields = "".join(_strength(entry, tower, use.strength(tower)) for tower in TOWERS)
    return (
        f'<div class="strengths" role="group" aria-label="Strengths of {title}">{fields}</div>'
        f'<button type="button" class="take" data-act="leave" aria-label="Remove {title}">Remove</button>'
    )


def _strength(entry: AdapterEntry, tower: str, strength: Strength) -> str:
    """Render a slider for a constant strength, and a text field for any strength."""
    name, field = _TOWER_NAMES[tower], f"lora-{entry.id}-{tower}"
    low, high = SLIDER_RANGE
    values = strength.over(2) if len(strength.spans) == 1 and len(strength.spans[0]) == 1 else ()
    plain = values[0] if values else 1.0
    off = "" if values else " disabled"
    return (
        f'<div class="strength"><label for="{field}">{name}</label>'
        f'<input type="range" min="{min(low, plain):g}" max="{max(high, plain):g}" step="0.05" value="{plain:g}" '
        f'data-tower="{tower}" aria-label="{name}: strength of {escape(entry.title)}"{off}>'
        f'<input id="{field}" type="text" value="{escape(str(strength))}" data-tower="{tower}" maxlength="200" '
        'autocomplete="off" inputmode="decimal" title="A number, or a schedule over the steps such as 1;0"></div>'
    )


def _short(name: str) -> str:
    return name.rpartition("/")[2].removesuffix(".safetensors")
