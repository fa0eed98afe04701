"""Event handlers of the LoRAs tab: the cards that match, and the stack after a change. Independent of Gradio."""

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
from ovi_studio.web.tabs.loras import texts, views


class LorasServices(Protocol):
    """The part of `Studio` that the LoRAs tab uses."""

    checkpoint_directory: Path
    adapters: AdapterLibrary
    presets: Presets
    open_to_all: bool


@dataclass(frozen=True)
class ChosenAdapters:
    """The adapters in the Create form."""

    accelerators: Stack
    adapters: Stack

    @classmethod
    def of(cls, accelerators: str, adapters: str) -> "ChosenAdapters":
        return cls(parse_stack(accelerators), parse_stack(adapters))


class LorasHandlers:
    """The functions behind the components of the tab. Methods may raise `JobError`."""

    def __init__(self, studio: LorasServices) -> None:
        self._library = studio.adapters
        self._presets = studio.presets
        self._checkpoints = studio.checkpoint_directory
        self._folder = None if studio.open_to_all else str(studio.adapters.directory)
        self._fits: dict[tuple[str, int, float, bool, str], Fit] = {}

    def show(self, search: str, model: str | None, chosen: ChosenAdapters) -> tuple[str, str, tuple[Any, ...]]:
        """Return the cards, the line above them, and a stamp that changes whenever they must be drawn again."""
        entries = self._found(search)
        variant = self._variant(model)
        names = self._by_file_name(chosen.adapters), self._by_file_name(chosen.accelerators)
        # Without the strengths: redrawing would take the focus from a slider that is being moved.
        stamp = [
            (entry.id, entry.size, entry.modified, entry.problem, entry.description, entry.contents is not None)
            for entry in entries
        ]
        seen = (variant.name, search, stamp, sorted(names[0]), sorted(names[1]))
        if entries:
            fits = {entry.id: self._fit(entry, variant) for entry in entries}
            cards = views.loras_html(entries, fits, *names)
        else:
            cards = views.empty_html(self._folder, bool(search.strip()))
        return cards, views.summary_html(chosen.accelerators, chosen.adapters), seen

    def add(self, adapter: str, chosen: ChosenAdapters) -> Stack:
        """Add an adapter, with the strengths that its file recommends."""
        entry = self._library.get(adapter)
        if entry.problem:
            raise JobError(entry.problem)
        about = entry.description
        video, audio = Strength.parse(about.video_strength), Strength.parse(about.audio_strength)
        others = tuple(use for use in chosen.adapters if not self._is(use, entry))
        return parse_stack((*others, AdapterUse(name=entry.name, video=video, audio=audio)))

    def remove(self, adapter: str, chosen: ChosenAdapters) -> Stack:
        """Remove an adapter."""
        entry = self._library.get(adapter)
        return tuple(use for use in chosen.adapters if not self._is(use, entry))

    def set_strengths(self, changed: Mapping[str, Any], chosen: ChosenAdapters) -> Stack:
        """Change the strengths of used adapters; `changed` maps ids to {video, audio} as text."""
        stack = chosen.adapters
        for adapter, strengths in changed.items():
            entry = self._library.get(str(adapter))
            texts = strengths if isinstance(strengths, dict) else {}
            video = Strength.parse(texts["video"]) if "video" in texts else None
            audio = Strength.parse(texts["audio"]) if "audio" in texts else None
            stack = tuple(
                replace(use, video=video or use.video, audio=audio or use.audio) if self._is(use, entry) else use
                for use in stack
            )
        return stack

    def add_trigger_word(self, adapter: str, number: Any, prompt: str) -> str:
        """Append a trigger word to the prompt, unless it already contains it."""
        words = self._library.get(adapter).description.trigger_words
        if not isinstance(number, int) or not 0 <= number < len(words):
            raise JobError(texts.WORD_GONE)
        word = words[number]
        if word.casefold() in prompt.casefold():
            return prompt
        longer = f"{prompt.rstrip()}, {word}" if prompt.strip() else word
        if len(longer) > MAX_PROMPT_LENGTH:
            raise JobError(texts.prompt_too_long(len(longer), MAX_PROMPT_LENGTH))
        return longer

    def save_preset(self, title: str, chosen: ChosenAdapters) -> str:
        """Save the chosen adapters as a preset, which leaves all other settings unchanged."""
        if not chosen.adapters:
            raise JobError(texts.NOTHING_TO_SAVE)
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
        key = (entry.id, entry.size, entry.modified, entry.contents is not None, variant.name)
        if key not in self._fits:
            self._fits[key] = fit(entry, self._library, model_names(variant))
        return self._fits[key]

    def _variant(self, model: str | None) -> Variant:
        try:
            return find_variant(model or "", self._checkpoints)
        except JobError:
            return next(iter(published_variants().values()))

    def _by_file_name(self, stack: Stack) -> dict[str, AdapterUse]:
        """Map the full name of each used file to its use."""
        found = {}
        for use in stack:
            try:
                found[self._library.find(use.name).name] = use
            except JobError:
                continue  # a missing file has no card; the form still shows it
        return found

    def _is(self, use: AdapterUse, entry: AdapterEntry) -> bool:
        return entry.name in self._by_file_name((use,))
