"""The model for checks on whole clips: the embedded one, or for small checks a tiny untrained one."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tiny_model import BUNDLE, DIMENSIONS

from gpu.check import Findings, Rig, require
from ovi_studio.checkpoints.layout import Inventory
from ovi_studio.checkpoints.layout import require as complete
from ovi_studio.core.clip import Clip
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.variants import Variant
from ovi_studio.demo.bundle_writer import build_models, write_bundle
from ovi_studio.runtime.compute import Compute
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.runtime.pipeline import Pipeline

PROMPT = "a red ball bounces on a green floor"


def bundle(rig: Rig) -> Inventory:
    """Return the inventory of the model; the tiny one is written to the check's folder, in float32."""
    if not rig.small:
        return complete("demo", rig.folder)
    write_bundle(BUNDLE, build_models(DIMENSIONS), rig.folder / "tiny", torch.float32)
    return complete(BUNDLE["name"], rig.folder / "tiny")


def load_pipeline(rig: Rig, inventory: Inventory, **options: Any) -> Pipeline:
    """Load a pipeline, with all models on the device unless `options` (of `RuntimeOptions`) say otherwise."""
    requested = RuntimeOptions(**{"memory": "max", "compilation": False, **options})
    return Pipeline.load(inventory, Compute(rig.device, rig.dtype, requested))


def clip_spec(rig: Rig, variant: Variant, **others: Any) -> ClipSpec:
    return ClipSpec(prompt=PROMPT, variant=variant.name, **{"steps": 2 if rig.small else 8, "seed": 7, **others})


def write_picture(rig: Rig, variant: Variant) -> Path:
    """Write a first frame, a red square on green."""
    height, width = variant.default_size
    pixels = np.full((height, width, 3), (40, 120, 60), np.uint8)
    pixels[height // 4 : height // 2, width // 3 : width // 2] = (220, 40, 30)
    path = rig.folder / "picture.png"
    Image.fromarray(pixels).save(path)
    return path


@dataclass(frozen=True)
class Bound:
    """Maximum difference of two clips."""

    grey: float
    """Mean difference of pixel values, of 255."""
    sound: float
    """Relative L2 error of the samples."""


SAME_NUMBERS = Bound(0.5, 0.02)
"""For identical computations with another memory layout, for which libraries may choose other kernels."""
OTHER_ROUNDING = Bound(2, 0.1)
"""Four times the differences of bfloat16, float32 and int8 after six steps on a CPU: 0.3 to 0.6 and 0.02."""


def require_near(found: Findings, name: str, clips: Iterable[Clip], expected: Iterable[Clip], bound: Bound) -> None:
    """Note the largest difference of pairs of clips; raises `CheckFailure` if it exceeds the bound."""
    differences = [difference(*pair) for pair in zip(clips, expected, strict=True)]
    grey, sound = map(max, zip(*differences, strict=True))
    found.note(f"{name}, frames (bound {bound.grey:g})", grey, "of 255")
    found.note(f"{name}, sound (bound {bound.sound:g})", sound)
    require(
        grey <= bound.grey and sound <= bound.sound,
        f"With {name} a clip differs by {grey:.2f} grey levels and {sound:.1%} of the sound; the bounds are "
        f"{bound.grey:g} and {bound.sound:.0%}.",
    )


def difference(clip: Clip, expected: Clip) -> tuple[float, float]:
    """Return the mean difference of pixel values and the relative L2 error of the samples."""
    grey = np.abs(clip.frames.astype(np.float32) - expected.frames).mean()
    sound = np.linalg.norm(clip.samples - expected.samples) / np.linalg.norm(expected.samples)
    return float(grey), float(sound)


def require_whole(clip: Clip, variant: Variant) -> None:
    """Raise `CheckFailure` unless a clip has the variant's frames and samples and is neither blank nor silent."""
    frames, height, width, channels = clip.frames.shape
    shape = (frames, channels, *clip.samples.shape)
    require(shape == (variant.frames, 3, variant.samples), f"The clip has the shapes {shape}.")
    require(height * width <= variant.pixel_area, f"The frames have {height}x{width} pixels.")
    require(np.isfinite(clip.samples).all(), "The samples are not finite.")
    require(clip.frames.std() > 0, "All pixels of the clip are equal.")
    require(clip.samples.std() > 0, "The clip is silent.")
