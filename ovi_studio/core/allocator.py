"""How torch's allocator for GPUs is set up, before it makes its first allocation. Importing this imports no torch."""

import os
import platform
import sys
from collections.abc import MutableMapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
"""The second is the older name of the first, and still read."""


def configure_allocator(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let segments of GPU memory grow, where that works and nobody has decided otherwise.

    Weights of 18 and 84 MB, places for streamed blocks of 0.7 GB and activations of up to 1 GB share one allocator;
    without it, gaps between them are lost. torch has it on Linux; under WSL the driver fails in it.
    """
    if sys.platform == "linux" and not on_wsl() and not any(name in environment for name in _VARIABLES):
        environment[_VARIABLES[0]] = "expandable_segments:True"


def forbid_spilling(device: "torch.device") -> None:
    """Limit this process to the memory that the GPU has free, where the driver would silently go beyond it.

    Windows' driver, also under WSL, moves what does not fit into host memory, and every step takes many times as long.
    With the limit memory runs out instead, which is noticed and answered.
    """
    if device.type != "cuda" or not (sys.platform == "win32" or on_wsl()):
        return
    import torch

    from ovi_studio.memory.gpu import usable_memory

    total = torch.cuda.mem_get_info(device)[1]
    torch.cuda.set_per_process_memory_fraction(usable_memory(device) / total, device)


def on_wsl() -> bool:
    """Whether this is Linux inside of Windows."""
    return sys.platform == "linux" and "microsoft" in platform.release().lower()
