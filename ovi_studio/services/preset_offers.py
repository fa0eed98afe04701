"""Which presets can be used here and now, and what is in the way of the others. Imports no torch."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ovi_studio.adapters.library import AdapterLibrary
from ovi_studio.adapters.sources import MissingAdapters, find_missing
from ovi_studio.services.presets import Preset


@dataclass(frozen=True)
class PresetOffer:
    """A preset as it is shown."""

    preset: Preset
    problem: str
    """Why it cannot be used, in sentences; empty if it can."""
    shortage: MissingAdapters | None = None
    """The adapters that it lacks."""

    @property
    def usable(self) -> bool:
        return not self.problem


def offers(presets: Sequence[Preset], library: AdapterLibrary, models: Collection[str]) -> list[PresetOffer]:
    """Every preset with what it lacks; `models` are the variants that are complete here."""
    return [_offer(preset, library, models) for preset in presets]


def _offer(preset: Preset, library: AdapterLibrary, models: Collection[str]) -> PresetOffer:
    lack = find_missing(preset.stack, preset.sources, library)
    reasons = [lack.reason] if lack else []
    if preset.variants and not set(preset.variants) & set(models):
        reasons.insert(0, f"It is for {' or '.join(preset.variants)}, which is not here; the System tab downloads it.")
    return PresetOffer(preset, " ".join(reasons), lack)
