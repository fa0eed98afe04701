"""Which presets can be used on this machine, and what the others need. Imports no torch."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ovi_studio.adapters.library import AdapterLibrary
from ovi_studio.adapters.sources import MissingAdapters, find_missing
from ovi_studio.services.presets import Preset


@dataclass(frozen=True)
class PresetOffer:
    """A preset, and what is missing before it can be used."""

    preset: Preset
    problem: str
    """Why the preset cannot be used, in sentences; empty if it can."""
    shortage: MissingAdapters | None = None
    """The adapters that are missing."""

    @property
    def usable(self) -> bool:
        return not self.problem


def offers(presets: Sequence[Preset], library: AdapterLibrary, models: Collection[str]) -> list[PresetOffer]:
    """List every preset with what it is missing; `models` are the names of the complete variants."""
    return [_offer(preset, library, models) for preset in presets]


def _offer(preset: Preset, library: AdapterLibrary, models: Collection[str]) -> PresetOffer:
    missing = find_missing(preset.stack, preset.sources, library)
    reasons = [missing.reason] if missing else []
    if preset.variants and not set(preset.variants) & set(models):
        reasons.insert(0, f"It needs {' or '.join(preset.variants)}; download it in the System tab.")
    return PresetOffer(preset, " ".join(reasons), missing)
