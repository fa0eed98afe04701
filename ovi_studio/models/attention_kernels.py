"""The available attention kernels: their titles, packages and supported GPUs. Imports no torch.

All compute the same softmax over all keys; those that are not exact also round queries, keys or weights to 8 bits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

NATIVE = "native"
Capability = tuple[int, int]
"""Compute capability of an NVIDIA GPU, such as (8, 6) for an RTX 3090."""

_AMPERE: Capability = (8, 0)
_HOPPER: Capability = (9, 0)
_BLACKWELL: Capability = (10, 0)
_RTX = "an RTX 30 or newer"


@dataclass(frozen=True)
class Kernel:
    """One implementation of attention."""

    title: str
    module: str
    """The Python module that must be importable."""
    package: str
    """The package that provides the module."""
    min_version: str = "0"
    """The oldest version of the package that diffusers 0.42 accepts."""
    min_capability: Capability | None = None
    """The oldest supported GPU; None: runs on every device, including the CPU."""
    below_capability: Capability | None = None
    """The oldest GPU that is too new for the kernel; None: no upper limit."""
    gpus: str = ""
    """The supported GPUs, as shown to people."""
    installation: str = ""
    """How to install the package."""
    exact: bool = True
    """Whether the result differs from the native one's only by the rounding of its own number format."""
    float32: bool = False
    """Whether it computes in float32 too, and not in 16 bits alone."""

    @property
    def installed(self) -> bool:
        return find_spec(self.module) is not None

    def runs_on(self, capability: Capability | None) -> bool:
        """Whether the kernel supports a GPU of this capability; None stands for a CPU."""
        if self.min_capability is None:
            return True
        if capability is None or capability < self.min_capability:
            return False
        return self.below_capability is None or capability < self.below_capability


KERNELS: Mapping[str, Kernel] = {
    NATIVE: Kernel("PyTorch's own", "torch", "torch", float32=True),
    "native-flash": Kernel("PyTorch's flash", "torch", "torch", min_capability=_AMPERE, gpus=_RTX),
    "native-cudnn": Kernel("PyTorch's cuDNN", "torch", "torch", min_capability=_AMPERE, gpus=_RTX),
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
        min_capability=_HOPPER,
        below_capability=_BLACKWELL,
        gpus="an H100 or H200",
        installation="build it from the folder “hopper” of the flash-attention repository",
    ),
    "sage": Kernel(
        "SageAttention",
        "sageattention",
        "sageattention",
        "2.1.1",
        _AMPERE,
        gpus=_RTX,
        installation="build 2.1.1 or newer from its repository",
        exact=False,
    ),
}
