from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from gpu.bundles import (
    OTHER_ROUNDING,
    SAME_NUMBERS,
    Bound,
    bundle,
    clip_spec,
    difference,
    load_pipeline,
    require_near,
    require_whole,
    write_picture,
)
from gpu.check import Findings, Rig, require
from ovi_studio.capacity.tiers import TIERS
from ovi_studio.core.clip import Clip
from ovi_studio.core.errors import JobError
from ovi_studio.core.weight_formats import Weights
from ovi_studio.models.attention import choose_backend
from ovi_studio.models.attention_kernels import KERNELS

_FP8_ROUNDING = Bound(10, 0.1)
"""Four times the difference of fp8 products from float32 after six steps on a CPU: 2.6, and 0.002 in the sound."""


@dataclass(frozen=True)
class Configuration:
    """A configuration that must make the same clip."""

    name: str
    options: Mapping[str, Any]
    """Fields of `RuntimeOptions`."""
    bound: Bound


def check(rig: Rig, found: Findings) -> None:
    """Clips of the embedded model from a prompt and a picture agree for all weights, memory tiers and attentions."""
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
    require(difference(expected["prompt"], expected["picture"])[0] > 1, "The picture makes no difference to the clip.")
    for configuration in _configurations(rig.device, found):
        try:
            made = clips(configuration.options)
        except JobError as error:
            found.leave_out(configuration.name, str(error))
            continue
        require_near(found, configuration.name, made.values(), expected.values(), configuration.bound)


def _configurations(device: torch.device, found: Findings) -> Iterator[Configuration]:
    yield Configuration("the same again", {}, SAME_NUMBERS)
    for weights in (Weights.INT8, Weights.FP8):
        yield Configuration(f"{weights} weights", {"weights": weights}, OTHER_ROUNDING)
    yield Configuration("fp8-fast weights", {"weights": Weights.FP8_FAST}, _FP8_ROUNDING)
    for tier in TIERS[:-1]:
        yield Configuration(f"tier {tier.name}", {"memory": tier.name, "weights": Weights.BF16}, SAME_NUMBERS)
    for attention in KERNELS:
        if attention == "native":
            continue
        try:
            choose_backend(attention, device)
        except JobError as error:
            found.leave_out(f"attention {attention}", str(error))
        else:
            yield Configuration(f"attention {attention}", {"attention": attention}, OTHER_ROUNDING)
