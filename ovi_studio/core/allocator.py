"""Memory allocators: their configuration before the first allocation, and the release of cached memory.

Nothing here imports torch.
"""

import ctypes
import gc
import os
import platform
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import suppress

_VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
"""The second is the older name of the first and is still read."""
_ARENA_VARIABLES = ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")
_ARENA_MAX = -8
"""`M_ARENA_MAX` of glibc's `mallopt`."""


def configure_allocator(environment: MutableMapping[str, str] = os.environ) -> None:
    """Enable expandable segments of GPU memory where they work, unless the user has configured the allocator.

    Weights of 18 and 84 MB, slots of 0.7 GB for streamed blocks and activations of up to 1 GB share one allocator;
    without expandable segments, the gaps between them are lost. torch supports them on Linux; under WSL the driver
    fails with them.
    """
    if sys.platform == "linux" and not on_wsl() and not any(name in environment for name in _VARIABLES):
        environment[_VARIABLES[0]] = "expandable_segments:True"


def share_host_arenas(environment: Mapping[str, str] = os.environ) -> bool:
    """Let all threads share two arenas of glibc's `malloc`, unless the user has configured it; returns whether they do.

    By default there are up to eight a core, and each keeps room for the largest answer that one of its threads gave. To
    be called before threads are started.
    """
    if sys.platform != "linux" or any(name in environment for name in _ARENA_VARIABLES):
        return False
    with suppress(OSError, AttributeError):  # another C library
        return bool(ctypes.CDLL(None).mallopt(_ARENA_MAX, 2))
    return False


def free_unused_memory() -> None:
    """Release memory that is no longer used. An exception that is still being handled keeps its frames' tensors."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def on_wsl() -> bool:
    """Whether this is Linux inside Windows (WSL)."""
    return sys.platform == "linux" and "microsoft" in platform.release().lower()
