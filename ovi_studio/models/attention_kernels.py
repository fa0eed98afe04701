"""The attention kernels that can be chosen, by name: what they are called, need, and run on. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

NATIVE = "native"
Capability = tuple[int, int]
"""Of NVIDIA's GPUs, such as (8, 6) for an RTX 3090."""

_AMPERE: Capability = (8, 0)
_HOPPER: Capability = (9, 0)
_BLACKWELL: Capability = (10, 0)
_RTX = "an RTX 30 or newer"


@dataclass(frozen=True)
class Kernel:
    """A way to compute attention."""

    title: str
    module: str
    """That must be there."""
    package: str
    """Which brings it."""
    least_version: str = "0"
    """Of the package, that diffusers 0.42 takes."""
    least: Capability | None = None
    """GPUs that it needs at least; None: it runs everywhere, on a CPU as well."""
    below: Capability | None = None
    """GPUs that it does not know yet."""
    gpus: str = ""
    """Those that it runs on, as people call them."""
    installation: str = ""

    @property
    def installed(self) -> bool:
        return find_spec(self.module) is not None

    def runs_on(self, capability: Capability | None) -> bool:
        """Whether it is made for a GPU; None stands for a CPU."""
        if self.least is None:
            return True
        return capability is not None and self.least <= capability and (self.below is None or capability < self.below)


KERNELS: Mapping[str, Kernel] = {
    NATIVE: Kernel("PyTorch's own", "torch", "torch"),
    "flash2": Kernel(
        "flash-attn 2",
        "flash_attn",
        "flash-attn",
        "2.6.3",
        _AMPERE,
        gpus=_RTX,
        installation="pip install flash-attn --no-build-isolation",
    ),
    "flash3": Kernel(
        "flash-attn 3",
        "flash_attn_interface",
        "flash-attn-3",
        least=_HOPPER,
        below=_BLACKWELL,
        gpus="an H100 or H200",
        installation="build it from flash-attention's folder `hopper`",
    ),
    "sage": Kernel(
        "SageAttention",
        "sageattention",
        "sageattention",
        "2.1.1",
        _AMPERE,
        gpus=_RTX,
        installation="build 2.1.1 or newer from its repository",
    ),
}
