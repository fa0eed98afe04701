"""Which presets can be used on this machine, and what the others need. Imports no torch."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ovi_studio.adapters.library import AdapterLibrary
from ovi_studio.adapters.sources import MissingAdapters, find_missing
from ovi_studio.checkpoints.layout import complete_variants, default_variant
from ovi_studio.core.errors import JobError
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


def chosen_variant(preset: Preset | None, checkpoint_directory: Path) -> str:
    """Return the best complete variant among those the preset is for; raises `JobError` if there is none."""
    if preset is None or not preset.variants:
        return default_variant(checkpoint_directory)
    fitting = [variant.name for variant in complete_variants(checkpoint_directory) if variant.name in preset.variants]
    if not fitting:
        names = ", ".join(preset.variants)
        raise JobError(f"The preset {preset.title} needs {names}, and none of them is complete; download one first.")
    return fitting[0]


def _offer(preset: Preset, library: AdapterLibrary, models: Collection[str]) -> PresetOffer:
    missing = find_missing(preset.stack, preset.sources, library)
    reasons = [missing.reason] if missing else []
    if preset.variants and not set(preset.variants) & set(models):
        reasons.insert(0, f"It needs {' or '.join(preset.variants)}; download it in the System tab.")
    return PresetOffer(preset, " ".join(reasons), missing)
