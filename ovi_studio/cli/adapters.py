"""Presets and LoRA files for the commands. Imports no torch."""

from pathlib import Path

from ovi_studio.adapters.library import AdapterLibrary
from ovi_studio.adapters.model_names import model_names
from ovi_studio.adapters.report import format_library
from ovi_studio.adapters.sources import find_missing, plan_adapters
from ovi_studio.checkpoints.download import DownloadPlan
from ovi_studio.checkpoints.layout import default_variant
from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import find_variant, known_variants
from ovi_studio.engine.command import DEFAULT_OUTPUT_DIRECTORY
from ovi_studio.queue.paths import StudioPaths
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services.presets import Preset, Presets


def library_report(variant_name: str | None, runtime: RuntimeOptions) -> str:
    """List every LoRA file and how it fits the variant, whose weights are not needed; raises `JobError`.

    Without a variant, the best one that is complete is taken.
    """
    variant = find_variant(variant_name or default_variant(runtime.checkpoints), runtime.checkpoints)
    library = AdapterLibrary(runtime.adapters)
    report = format_library(library, model_names(variant))
    chosen = "" if variant_name else ", the best complete model; --variant names another one"
    return f"Matched with {variant.name}{chosen}.\n{report}" if library.scan() else report


def chosen_preset(name: str | None, runtime: RuntimeOptions, outputs: Path | None) -> Preset | None:
    """Look up a preset and check that its adapters are present; None without a name.

    Raises `JobError` if there is no such preset, or if an adapter is missing, with the command that downloads it.
    """
    if name is None:
        return None
    preset = _presets(outputs).get(name)
    if missing := find_missing(preset.stack, preset.sources, AdapterLibrary(runtime.adapters)):
        remedy = f" Run `python -m ovi_studio download {name}` ({missing.licences})." if missing.sources else ""
        raise JobError(f"The preset {preset.title} cannot be used: {missing.reason}{remedy}")
    return preset


def plan_download(name: str, runtime: RuntimeOptions) -> DownloadPlan:
    """Plan the download of a preset's missing adapters; raises `JobError`, also for an unknown name."""
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
