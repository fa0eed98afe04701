"""Torch's allocator for GPUs: set up before its first allocation, and asked to give back what it only keeps.

Nothing here imports torch.
"""

import gc
import os
import platform
import sys
from collections.abc import MutableMapping

_VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
"""The second is the older name of the first, and still read."""


def configure_allocator(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let segments of GPU memory grow, where that works and nobody has decided otherwise.

    Weights of 18 and 84 MB, places for streamed blocks of 0.7 GB and activations of up to 1 GB share one allocator;
    without it, gaps between them are lost. torch has it on Linux; under WSL the driver fails in it.
    """
    if sys.platform == "linux" and not on_wsl() and not any(name in environment for name in _VARIABLES):
        environment[_VARIABLES[0]] = "expandable_segments:True"


def free_unused_memory() -> None:
    """Give back what nobody uses any more; an exception that is still handled holds on to what it was about."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def on_wsl() -> bool:
    """Whether this is Linux inside of Windows."""
    return sys.platform == "linux" and "microsoft" in platform.release().lower()
