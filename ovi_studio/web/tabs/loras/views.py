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
from ovi_studio.core.towers import TOWERS, Tower
from ovi_studio.web.drawn import drawn_html
from ovi_studio.web.public_text import for_page
from ovi_studio.web.tabs.loras import texts

SLIDER_RANGE = (-1.0, 2.0)
"""The usual range; the text field next to the slider takes any strength, and schedules."""
_SHOWN_WORDS = 12


def loras_html(
    entries: Sequence[AdapterEntry],
    fits: Mapping[str, Fit],
    uses: Mapping[str, AdapterUse],
    accelerators: Mapping[str, AdapterUse],
) -> str:
    """Render adapters as cards, and those that cannot be used as one list.

    Args:
        fits: by id.
        uses, accelerators: by name; what is in use has a card, so that it can be removed.
    """
    in_use = uses.keys() | accelerators.keys()
    cards, rejected = [], []
    for entry in entries:
        fit = fits[entry.id]
        if fit.usable or entry.name in in_use:
            cards.append(_card(entry, fit, uses.get(entry.name), accelerators.get(entry.name)))
        else:
            rejected.append((entry, fit.problem))
    wall = f'<ul class="loras" aria-label="{texts.CARDS}">{"".join(cards)}</ul>' if cards else ""
    return wall + _rejected(rejected, opened=not cards)


def _rejected(entries: Sequence[tuple[AdapterEntry, str]], *, opened: bool) -> str:
    """Render files as one folded list, each with the reason why it cannot be used."""
    if not entries:
        return ""
    rows = "".join(
        f"<li><b>{escape(entry.name)}</b><span>{format_bytes(entry.size)}</span><p>{escape(for_page(reason))}</p></li>"
        for entry, reason in entries
    )
    state = " open" if opened else ""
    return (
        f'<details class="rejected"{state}><summary>{texts.rejected(len(entries))}</summary><ul>{rows}</ul></details>'
    )


def empty_html(folder: str | None, searched: bool) -> str:
    """Render a sentence in place of cards; the folder is None where it is not to be told."""
    if searched:
        sentence = texts.NOTHING_FOUND
    elif folder is None:
        sentence = texts.NO_FILES
    else:
        sentence = f"{texts.EMPTY_BEFORE} <code>{escape(folder)}</code>{texts.EMPTY_AFTER}"
    return f'<div class="nothing" role="status"><p>{sentence}</p></div>'


def summary_html(accelerators: Sequence[AdapterUse], uses: Sequence[AdapterUse]) -> str:
    """Render what the next clip uses, in one line."""
    fast = ", ".join(_short(use.name) for use in accelerators)
    return f'<p class="uses" role="status">{escape(texts.in_use(len(uses), fast))}</p>'


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
    facts = [entry.name, format_bytes(entry.size), about.base_model, texts.author(about.author)]
    text = f'<p class="about">{escape(about.description[:300])}</p>' if about.description else ""
    line = " · ".join(escape(fact) for fact in facts if fact)
    return f'<p class="file">{line}</p>{text}<p class="licence">{escape(texts.licence(about.licence))}</p>'


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
        f'aria-label="{escape(texts.add_word(word))}">{escape(word)}</button>'
        for number, word in enumerate(words)
    )
    label = escape(texts.trigger_words(entry.title))
    return f'<div class="chips" role="group" aria-label="{label}">{chips}</div>'


def _controls(entry: AdapterEntry, fit: Fit, use: AdapterUse | None, accelerator: AdapterUse | None) -> str:
    if accelerator is not None:
        return f'<p class="role">{texts.ACCELERATOR}</p>'
    if use is None:
        return _button("take", texts.USE, texts.use(entry.title))
    fields = "".join(_strength(entry, tower, use.strength(tower)) for tower in TOWERS) if fit.usable else ""
    group = f'<div class="strengths" role="group" aria-label="{escape(texts.strengths(entry.title))}">{fields}</div>'
    return f"{group if fields else ''}{_button('leave', texts.REMOVE, texts.remove(entry.title))}"


def _button(act: str, words: str, label: str) -> str:
    return f'<button type="button" class="take" data-act="{act}" aria-label="{escape(label)}">{words}</button>'


def _strength(entry: AdapterEntry, tower: Tower, strength: Strength) -> str:
    """Render a slider for a constant strength, and a text field for any strength."""
    field = f"lora-{entry.id}-{tower}"
    low, high = SLIDER_RANGE
    values = strength.over(2) if len(strength.spans) == 1 and len(strength.spans[0]) == 1 else ()
    plain = values[0] if values else 1.0
    off = "" if values else " disabled"
    return (
        f'<div class="strength"><label for="{field}">{texts.TOWERS[tower]}</label>'
        f'<input type="range" min="{min(low, plain):g}" max="{max(high, plain):g}" step="0.05" value="{plain:g}" '
        f'data-tower="{tower}" aria-label="{escape(texts.strength(tower, entry.title))}"{off}>'
        f'<input id="{field}" type="text" value="{escape(str(strength))}" data-tower="{tower}" maxlength="200" '
        f'autocomplete="off" inputmode="decimal" title="{texts.STRENGTH_HINT}"></div>'
    )


def _short(name: str) -> str:
    return name.rpartition("/")[2].removesuffix(".safetensors")
