"""HTML for the Templates tab, and its notation for slots, one per line. All text from users is escaped."""

import re
from collections.abc import Sequence
from html import escape
from typing import Any

from ovi_studio.core.prompt_spelling import for_people
from ovi_studio.services.templates import Slot, Template
from ovi_studio.web.drawn import drawn_html
from ovi_studio.web.tabs.templates import texts

_SLOT = re.compile(r"\{([a-z][a-z0-9_]*)\}")


def cards_html(templates: Sequence[Template], chosen: str) -> str:
    """Render the templates of a category as cards."""
    if not templates:
        return f'<div class="nothing" role="status"><p>{texts.NO_OWN}</p></div>'
    cards = "".join(_card(template, template.id == chosen) for template in templates)
    return f'<ul class="templates" aria-label="{texts.CARDS}">{cards}</ul>'


def _card(template: Template, chosen: bool) -> str:
    name = escape(template.id)
    picture = (
        drawn_html(template.id)
        if template.own
        else f'<img src="studio/template/{name}/picture" alt="" loading="lazy" decoding="async">'
    )
    return (
        f'<li><button type="button" class="template" data-act="choose" data-id="{name}" '
        f'aria-pressed="{str(chosen).lower()}"><span class="picture">{picture}</span><span class="category">'
        f"{escape(template.category)}</span><strong>{escape(template.title)}</strong>"
        f'<span class="about">{escape(template.description)}</span></button></li>'
    )


def slots_html(template: Template) -> str:
    """Render the fields of the slots with their suggestions, and the button that uses the template."""
    fields = "".join(_field(number, slot) for number, slot in enumerate(template.slots))
    about = f'<p class="about">{escape(template.description)}</p>' if template.description else ""
    return (
        f'<form class="slots" data-id="{escape(template.id)}" onsubmit="return false"><h2>{escape(template.title)}</h2>'
        f'{about}{fields}<button type="button" class="main-action" data-act="use">{texts.USE}</button></form>'
    )


def prompt_html(prompt: str) -> str:
    """Render the filled prompt, as people read it."""
    return (
        f'<div class="recipe filled"><h3>{texts.PROMPT}</h3><p class="prompt" tabindex="0" role="region" '
        f'aria-label="{texts.FILLED_PROMPT}" aria-live="polite">{escape(for_people(prompt))}</p></div>'
    )


def slot_lines(slots: Sequence[Slot]) -> str:
    """Format slots one per line, as in `animal: red fox | grey wolf`: the default, then suggestions."""
    return "\n".join(f"{slot.name}: {' | '.join((slot.default, *slot.suggestions))}" for slot in slots)


def parse_slot_lines(text: str, prompt: str, known: Sequence[Slot] = ()) -> dict[str, Any]:
    """Parse the format of `slot_lines` to slots as in a template's file; a slot without a line defaults to its name."""
    labels = {slot.name: slot.label for slot in known}
    slots: dict[str, Any] = {}
    for line in filter(str.strip, text.splitlines()):
        name, _, rest = line.partition(":")
        default, *suggestions = [choice.strip() for choice in rest.split("|") if choice.strip()] or [""]
        slots[name.strip()] = {"default": default, "suggestions": suggestions}
    for name in _SLOT.findall(prompt):
        slots.setdefault(name, {"default": "", "suggestions": []})
    for name, entry in slots.items():
        words = name.replace("_", " ")
        entry["label"] = labels.get(name) or words.capitalize()
        entry["default"] = entry["default"] or words
    return slots


def _field(number: int, slot: Slot) -> str:
    field = f"slot-{number}"
    chips = "".join(
        f'<button type="button" class="chip" data-act="suggest" data-field="{field}">{escape(text)}</button>'
        for text in (slot.default, *slot.suggestions)
    )
    return (
        f'<div class="slot"><label for="{field}">{escape(slot.label)}</label>'
        f'<input id="{field}" type="text" data-slot="{escape(slot.name)}" value="{escape(slot.default)}" '
        f'maxlength="500" autocomplete="off"><div class="chips" role="group" '
        f'aria-label="{escape(texts.suggestions(slot.label))}">{chips}</div></div>'
    )
