from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpu.bundles import bundle, clip_spec, load_pipeline, require_whole, write_picture
from gpu.check import Findings, Rig, require
from ovi_studio.clip import Clip
from ovi_studio.errors import JobError
from ovi_studio.memory.formats import Weights
from ovi_studio.memory.tiers import TIERS
from ovi_studio.models.attention import BACKENDS, choose_backend


@dataclass(frozen=True)
class Bound:
    """How far a clip may be from the one with bf16 weights, everything resident, and PyTorch's attention."""

    grey: float
    """Mean difference of pixel values, which go to 255."""
    sound: float
    """Relative L2 error of the samples."""


SAME_NUMBERS = Bound(0.5, 0.02)
"""The same products at other places in memory: libraries may choose other kernels."""
OTHER_ROUNDING = Bound(2, 0.1)
"""Four times what lies between bfloat16, float32 and int8 after six steps on a CPU: 0.3 to 0.6 and 0.02."""


@dataclass(frozen=True)
class Way:
    """To make the same clip."""

    name: str
    options: Mapping[str, Any]
    """Of `Compute`."""
    bound: Bound


def check(rig: Rig, found: Findings) -> None:
    """Clips of the embedded model, from a prompt and from a picture, agree in all weights, memory tiers, attentions."""
    inventory = bundle(rig)
    variant = inventory.variant
    prompt = clip_spec(rig, variant)
    specs = {"prompt": prompt, "picture": clip_spec(rig, variant, image=write_picture(rig, variant))}

    def clips(options: Mapping[str, Any]) -> dict[str, Clip]:
        pipeline = load_pipeline(rig, inventory, **options)
        made = {name: pipeline(spec) for name, spec in specs.items()}
        for clip in made.values():
            require_whole(clip, variant)
        return made

    expected = clips({})
    require(_difference(expected["prompt"], expected["picture"])[0] > 1, "The picture makes no difference to the clip.")
    for way in _ways(found):
        try:
            made = clips(way.options)
        except JobError as error:
            found.leave_out(way.name, str(error))
            continue
        differences = [_difference(clip, expected[name]) for name, clip in made.items()]
        grey, sound = map(max, zip(*differences, strict=True))
        found.note(f"{way.name}, frames (bound {way.bound.grey:g})", grey, "of 255")
        found.note(f"{way.name}, sound (bound {way.bound.sound:g})", sound)
        require(
            grey <= way.bound.grey and sound <= way.bound.sound,
            f"With {way.name} a clip differs by {grey:.2f} grey levels and {sound:.1%} of the sound; the bounds are "
            f"{way.bound.grey:g} and {way.bound.sound:.0%}.",
        )


def _ways(found: Findings) -> Iterator[Way]:
    for weights in (Weights.INT8, Weights.FP8):
        yield Way(f"{weights} weights", {"weights": weights}, OTHER_ROUNDING)
    for tier in TIERS[:-1]:
        yield Way(f"tier {tier.name}", {"memory": tier.name, "weights": Weights.BF16}, SAME_NUMBERS)
    for attention in BACKENDS:
        if attention == "native":
            continue
        try:
            choose_backend(attention)
        except JobError as error:
            found.leave_out(f"attention {attention}", str(error))
        else:
            yield Way(f"attention {attention}", {"attention": attention}, OTHER_ROUNDING)


def _difference(clip: Clip, expected: Clip) -> tuple[float, float]:
    grey = np.abs(clip.frames.astype(np.float32) - expected.frames).mean()
    sound = np.linalg.norm(clip.samples - expected.samples) / np.linalg.norm(expected.samples)
    return float(grey), float(sound)
