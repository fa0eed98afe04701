"""Where and how models compute: the device, the number format, and the options that remain."""

from dataclasses import dataclass, field, replace

import torch

from ovi_studio.capacity.arithmetic import TowerSizes
from ovi_studio.capacity.memory import Demand
from ovi_studio.capacity.tiers import AUTO
from ovi_studio.core.variants import Variant
from ovi_studio.distributed.ranks import ALONE, Ranks
from ovi_studio.models.compilation import choose_compilation
from ovi_studio.models.device import compute_device
from ovi_studio.runtime.attention_choice import choose_attention
from ovi_studio.runtime.options import RuntimeOptions


@dataclass(frozen=True)
class Compute:
    """The device, the number format and the options with which models compute."""

    device: torch.device
    dtype: torch.dtype
    options: RuntimeOptions = field(default_factory=RuntimeOptions)
    """Their folders, device and number format are not used any more."""
    exhausted: tuple[str, ...] = ()
    """Memory tiers or fallbacks that ran out of memory before, for the clip's record."""

    @classmethod
    def of(cls, options: RuntimeOptions | None = None, exhausted: tuple[str, ...] = ()) -> "Compute":
        """Resolve options; the default is the first GPU in bfloat16, or the CPU in float32.

        Raises `JobError` if the device does not exist.
        """
        options = options or RuntimeOptions()
        device = compute_device(options.device)
        usual = "bfloat16" if device.type == "cuda" else "float32"
        return cls(device, getattr(torch, usual if options.dtype == AUTO else options.dtype), options, exhausted)

    def with_attention(self, variant: Variant, ranks: Ranks = ALONE) -> "Compute":
        """Return a copy whose options name the attention kernel that makes the variant's clips here.

        Raises `JobError` if the requested kernel does not run here.
        """
        tokens = Demand.largest(variant).video_tokens
        name = choose_attention(self.options.attention, tokens, self.device, self.dtype, ranks)
        return replace(self, options=replace(self.options, attention=name))

    def compiles(self, variant: Variant) -> bool:
        """Whether the blocks of the variant's transformer are compiled; raises `JobError` as `choose_compilation`."""
        parameters = TowerSizes.of(variant.dimensions).parameters
        return choose_compilation(self.options.compilation, self.device, parameters)
