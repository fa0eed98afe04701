"""The model of which whole clips are made quickly: the embedded one, or in the small form a tiny untrained one."""

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
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.runtime.pipeline import Compute, Pipeline

PROMPT = "a red ball bounces on a green floor"


def bundle(rig: Rig) -> Inventory:
    """Complete; the tiny one is written to the check's folder, in float32."""
    if not rig.small:
        return complete("demo", rig.folder)
    write_bundle(BUNDLE, build_models(DIMENSIONS), rig.folder / "tiny", torch.float32)
    return complete(BUNDLE["name"], rig.folder / "tiny")


def load_pipeline(rig: Rig, inventory: Inventory, **options: Any) -> Pipeline:
    """With everything on the device if `options` (of `RuntimeOptions`) say nothing else."""
    asked = RuntimeOptions(**{"memory": "max", "compilation": False, **options})
    return Pipeline.load(inventory, Compute(rig.device, rig.dtype, asked))


def clip_spec(rig: Rig, variant: Variant, **others: Any) -> ClipSpec:
    return ClipSpec(prompt=PROMPT, variant=variant.name, **{"steps": 2 if rig.small else 8, "seed": 7, **others})


def write_picture(rig: Rig, variant: Variant) -> Path:
    """A first frame: a red square on green."""
    height, width = variant.default_size
    pixels = np.full((height, width, 3), (40, 120, 60), np.uint8)
    pixels[height // 4 : height // 2, width // 3 : width // 2] = (220, 40, 30)
    path = rig.folder / "picture.png"
    Image.fromarray(pixels).save(path)
    return path


@dataclass(frozen=True)
class Bound:
    """How far one clip may be from another."""

    grey: float
    """Mean difference of pixel values, which go to 255."""
    sound: float
    """Relative L2 error of the samples."""


SAME_NUMBERS = Bound(0.5, 0.02)
"""The same products at other places in memory: libraries may choose other kernels."""
OTHER_ROUNDING = Bound(2, 0.1)
"""Four times what lies between bfloat16, float32 and int8 after six steps on a CPU: 0.3 to 0.6 and 0.02."""


def require_near(found: Findings, name: str, clips: Iterable[Clip], expected: Iterable[Clip], bound: Bound) -> None:
    """Notes the largest difference of pairs of clips; raises `CheckFailure` if it is beyond the bound."""
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
    """Mean difference of pixel values, and relative L2 error of the samples."""
    grey = np.abs(clip.frames.astype(np.float32) - expected.frames).mean()
    sound = np.linalg.norm(clip.samples - expected.samples) / np.linalg.norm(expected.samples)
    return float(grey), float(sound)


def require_whole(clip: Clip, variant: Variant) -> None:
    """Raises `CheckFailure` unless a clip has the variant's frames and samples, and something in them."""
    frames, height, width, channels = clip.frames.shape
    shape = (frames, channels, *clip.samples.shape)
    require(shape == (variant.frames, 3, variant.samples), f"The clip has the shapes {shape}.")
    require(height * width <= variant.pixel_area, f"The frames have {height}x{width} pixels.")
    require(np.isfinite(clip.samples).all(), "The samples have values that are no numbers.")
    require(clip.frames.std() > 0, "All pixels of the clip are the same.")
    require(clip.samples.std() > 0, "The clip is silent.")
