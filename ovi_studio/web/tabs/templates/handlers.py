"""Event handlers of the Templates tab: cards, the filled prompt, and the user's own templates."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import gradio as gr

from ovi_studio.core.errors import JobError
from ovi_studio.core.prompts import AudioTag
from ovi_studio.core.variants import find_variant
from ovi_studio.services.templates import Template, Templates, template_entry
from ovi_studio.web.tabs.templates import texts, views
from ovi_studio.web.views import notice_html


class TemplatesForm(Protocol):
    """The part of the Create form that the Templates tab reads and fills."""

    @property
    def written(self) -> list[Any]: ...

    def text_of(self, prompt: Any, cues: Any, sound: Any, tag: AudioTag) -> str: ...

    @property
    def model(self) -> Any: ...

    @property
    def ratio(self) -> Any: ...

    @property
    def fields(self) -> Mapping[str, Any]: ...

    @property
    def outputs(self) -> list[Any]: ...

    def fill(self, *, prompt: str | None = None) -> list[Any]: ...


class TemplatesServices(Protocol):
    """The part of `Studio` that the Templates tab uses."""

    checkpoint_directory: Path
    templates: Templates


class TemplatesHandlers:
    """The functions behind the components of the tab. Methods may raise `JobError`."""

    def __init__(self, studio: TemplatesServices) -> None:
        self._templates = studio.templates
        self._checkpoints = studio.checkpoint_directory

    def cards(self, category: str, chosen: str) -> tuple[str, str]:
        """Return the cards of a category, and a notice about invalid files."""
        listed = self._templates.all()
        found = [one for one in listed.templates if category in (texts.ALL, one.category)]
        notice = notice_html(" ".join(listed.notices), texts.SOME_UNUSABLE) if listed.notices else ""
        return views.cards_html(found, chosen), notice

    def choose(self, chosen: str, model: str | None) -> Any:
        """Show a template's slots and its prompt."""
        template = self._templates.get(chosen)
        prompt = views.prompt_html(template.fill({}, self._tag(model)))
        visibility = gr.Row(visible=template.own), gr.Column(visible=True), gr.Column(visible=False)
        return chosen, views.slots_html(template), prompt, *visibility

    def fill(self, event: gr.EventData, model: str | None) -> str:
        """Show the prompt with the current values of the slots."""
        return views.prompt_html(self._template(event).fill(_values(event), self._tag(model)))

    def use(self, event: gr.EventData, model: str | None, form: TemplatesForm) -> list[Any]:
        """Return updates of the form: the template's prompt and settings."""
        template = self._template(event)
        updates = form.fill(prompt=template.fill(_values(event), self._tag(model)))
        values = {id(form.fields[name]): value for name, value in template.settings.items() if name in form.fields}
        if template.aspect_ratio:
            values[id(form.ratio)] = template.aspect_ratio
        return [
            gr.update(value=values[id(component)]) if id(component) in values else update
            for component, update in zip(form.outputs, updates, strict=True)
        ]

    def entry(self, chosen: str) -> list[str]:
        """Return the editor's fields for one of the user's own templates."""
        template = self._templates.get(chosen)
        slots = views.slot_lines(template.slots)
        return [template.title, template.description, template.prompt, template.audio, slots]

    def save(self, edited: str, title: str, about: str, prompt: str, audio: str, lines: str) -> Template:
        """Save a template of the user's own: a new one, or the one that is being edited."""
        before = self._templates.get(edited) if edited else None
        entry = template_entry(before) if before else {}
        slots = views.parse_slot_lines(lines, f"{prompt} {audio}", before.slots if before else ())
        entry |= {"title": title, "description": about, "prompt": prompt, "audio": audio, "slots": slots}
        entry.pop("id", None)
        return self._templates.replace(edited, entry) if before else self._templates.add(entry)

    def delete(self, chosen: str) -> tuple[str, Callable[[], None]]:
        """Delete one of the user's own templates; returns its title, and what puts it back."""
        title = self._templates.get(chosen).title
        return title, partial(self._templates.restore, self._templates.delete(chosen))

    def _template(self, event: gr.EventData) -> Template:
        chosen = getattr(event, "id", None)
        return self._templates.get(chosen if isinstance(chosen, str) else "")

    def _tag(self, model: str | None) -> AudioTag:
        try:
            return find_variant(model or "", self._checkpoints).audio_tag
        except JobError:
            return AudioTag.AUDIO


def _values(event: gr.EventData) -> dict[str, str]:
    values = getattr(event, "values", None)
    return {str(name): value for name, value in values.items()} if isinstance(values, dict) else {}
