"""What the command line does with presets and LoRA files. Imports no torch."""

from pathlib import Path

from ovi_studio.adapters.library import AdapterLibrary
from ovi_studio.adapters.model_names import model_names
from ovi_studio.adapters.report import format_library
from ovi_studio.adapters.sources import fetch_adapters, find_missing, plan_adapters
from ovi_studio.checkpoints.download import DownloadPlan
from ovi_studio.checkpoints.layout import complete_variants, default_variant
from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import find_variant, known_variants
from ovi_studio.queue.paths import StudioPaths
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services.presets import Preset, Presets

__all__ = ["chosen_preset", "chosen_variant", "fetch_adapters", "library_report", "plan_download"]

DEFAULT_OUTPUT_DIRECTORY = Path("outputs")


def library_report(variant_name: str, runtime: RuntimeOptions) -> str:
    """Every LoRA file and how it fits the variant, whose weights need not be here; raises `JobError`."""
    names = model_names(find_variant(variant_name, runtime.checkpoints))
    return format_library(AdapterLibrary(runtime.adapters), names)


def chosen_preset(name: str | None, runtime: RuntimeOptions, outputs: Path | None) -> Preset | None:
    """The preset called `name`, with all that it needs.

    Raises `JobError` if there is none, or if an adapter of it is missing, with the command that fetches it.
    """
    if name is None:
        return None
    preset = _presets(outputs).get(name)
    if missing := find_missing(preset.stack, preset.sources, AdapterLibrary(runtime.adapters)):
        remedy = f" Run `python -m ovi_studio download {name}` ({missing.licences})." if missing.sources else ""
        raise JobError(f"The preset {preset.title} cannot be used: {missing.reason}{remedy}")
    return preset


def chosen_variant(preset: Preset | None, checkpoint_directory: Path) -> str:
    """The best variant that is complete, among those that the preset is for; raises `JobError`."""
    if preset is None or not preset.variants:
        return default_variant(checkpoint_directory)
    fitting = [variant.name for variant in complete_variants(checkpoint_directory) if variant.name in preset.variants]
    if not fitting:
        names = ", ".join(preset.variants)
        raise JobError(f"The preset {preset.title} is for {names}, of which none is complete; download one first.")
    return fitting[0]


def plan_download(name: str, runtime: RuntimeOptions) -> DownloadPlan:
    """What a preset lacks, as the hub describes it; raises `JobError`, also for a name that nothing has."""
    presets, library = _presets(None), AdapterLibrary(runtime.adapters)
    if name not in presets.names():
        raise JobError(
            f"There is no model variant {name!r}; choose one of {', '.join(known_variants(runtime.checkpoints))}, or "
            f"one of the presets {', '.join(presets.names())}."
        )
    preset = presets.get(name)
    missing = find_missing(preset.stack, preset.sources, library)
    if missing and not missing.sources:
        raise JobError(missing.reason)
    return plan_adapters(missing.sources if missing else {}, library)


def _presets(outputs: Path | None) -> Presets:
    return Presets(StudioPaths.of(outputs or DEFAULT_OUTPUT_DIRECTORY).state)
