"""What the LoRAs tab asks and does: the cards that are found, and the stack after a choice. Needs no components."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from ovi_studio.adapters.library import AdapterEntry, AdapterLibrary
from ovi_studio.adapters.model_names import model_names
from ovi_studio.adapters.report import Fit, fit
from ovi_studio.core.adapter_stack import AdapterUse, Stack, Strength, parse_stack
from ovi_studio.core.errors import JobError
from ovi_studio.core.prompts import MAX_PROMPT_LENGTH
from ovi_studio.core.variants import Variant, find_variant, published_variants
from ovi_studio.services.presets import Presets
from ovi_studio.web.tabs.loras import views


class Shelf(Protocol):
    """The part of `Studio` that this tab uses."""

    checkpoint_directory: Path
    adapters: AdapterLibrary
    presets: Presets


@dataclass(frozen=True)
class Chosen:
    """What the form has chosen."""

    accelerators: Stack
    adapters: Stack

    @classmethod
    def of(cls, accelerators: str, adapters: str) -> "Chosen":
        return cls(parse_stack(accelerators), parse_stack(adapters))


class LorasHandlers:
    """What happens when somebody does something. Methods may raise `JobError`."""

    def __init__(self, studio: Shelf) -> None:
        self._library = studio.adapters
        self._presets = studio.presets
        self._checkpoints = studio.checkpoint_directory
        self._fits: dict[tuple[str, int, float, str], Fit] = {}

    def look(self, search: str, model: str | None, chosen: Chosen) -> tuple[str, str, tuple[Any, ...]]:
        """The cards, the line above them, and what decides whether they must be drawn again."""
        entries = self._found(search)
        variant = self._variant(model)
        names = self._by_entry(chosen.adapters), self._by_entry(chosen.accelerators)
        # Not the strengths: whoever moves a slider sees it move, and keeps the focus.
        stamp = [(entry.id, entry.size, entry.modified, entry.problem, entry.description) for entry in entries]
        seen = (variant.name, search, stamp, sorted(names[0]), sorted(names[1]))
        if entries:
            fits = {entry.id: self._fit(entry, variant) for entry in entries}
            cards = views.loras_html(entries, fits, *names)
        else:
            cards = views.empty_html(str(self._library.directory), bool(search.strip()))
        return cards, views.summary_html(chosen.accelerators, chosen.adapters), seen

    def take(self, adapter: str, chosen: Chosen) -> Stack:
        """Use an adapter, with the strengths that its file recommends."""
        entry = self._library.get(adapter)
        if entry.problem:
            raise JobError(entry.problem)
        about = entry.description
        strengths = {
            "video": Strength.parse(about.video_strength),
            "audio": Strength.parse(about.audio_strength),
        }
        others = tuple(use for use in chosen.adapters if not self._is(use, entry))
        return parse_stack((*others, AdapterUse(name=entry.name, **strengths)))

    def leave(self, adapter: str, chosen: Chosen) -> Stack:
        """Use an adapter no more."""
        entry = self._library.get(adapter)
        return tuple(use for use in chosen.adapters if not self._is(use, entry))

    def strengthen(self, changed: Mapping[str, Any], chosen: Chosen) -> Stack:
        """Other strengths for adapters that are used; `changed` is id -> {video, audio} as text."""
        stack = chosen.adapters
        for adapter, strengths in changed.items():
            entry = self._library.get(str(adapter))
            given = {
                tower: Strength.parse(text)
                for tower, text in (strengths.items() if isinstance(strengths, dict) else ())
                if tower in ("video", "audio")
            }
            stack = tuple(replace(use, **given) if self._is(use, entry) else use for use in stack)
        return stack

    def word(self, adapter: str, number: Any, prompt: str) -> str:
        """The prompt with a trigger word, unless it stands there already."""
        words = self._library.get(adapter).description.trigger_words
        if not isinstance(number, int) or not 0 <= number < len(words):
            raise JobError("This trigger word is not there any more; look again.")
        word = words[number]
        if word.casefold() in prompt.casefold():
            return prompt
        longer = f"{prompt.rstrip()}, {word}" if prompt.strip() else word
        if len(longer) > MAX_PROMPT_LENGTH:
            raise JobError(f"The prompt would have {len(longer)} characters; the most is {MAX_PROMPT_LENGTH}.")
        return longer

    def keep(self, title: str, chosen: Chosen) -> str:
        """Save the chosen adapters as a preset, which leaves every other setting alone."""
        if not chosen.adapters:
            raise JobError("No LoRA file is used; choose some first.")
        return self._presets.save(title, {"adapters": chosen.adapters}, badge="LoRAs").title

    def _found(self, search: str) -> Sequence[AdapterEntry]:
        words = search.casefold().split()

        def text(entry: AdapterEntry) -> str:
            about = entry.description
            parts = [entry.name, entry.title, about.base_model, about.description, *about.trigger_words]
            return " ".join(parts).casefold()

        return [entry for entry in self._library.scan() if all(word in text(entry) for word in words)]

    def _fit(self, entry: AdapterEntry, variant: Variant) -> Fit:
        if entry.problem:
            return Fit(None, entry.problem)
        key = (entry.id, entry.size, entry.modified, variant.name)
        if key not in self._fits:
            self._fits[key] = fit(entry, self._library, model_names(variant))
        return self._fits[key]

    def _variant(self, model: str | None) -> Variant:
        try:
            return find_variant(model or "", self._checkpoints)
        except JobError:
            return next(iter(published_variants().values()))

    def _by_entry(self, stack: Stack) -> dict[str, AdapterUse]:
        """The uses by the full name of the file that each means."""
        found = {}
        for use in stack:
            try:
                found[self._library.find(use.name).name] = use
            except JobError:
                continue  # what is not here has no card; the form still shows it
        return found

    def _is(self, use: AdapterUse, entry: AdapterEntry) -> bool:
        return entry.name in self._by_entry((use,))
