"""Parts of a clip's record: the time of each phase, package versions, and the machine."""

import importlib.metadata
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch

_PACKAGES = ("torch", "diffusers", "transformers", "av")


class PhaseClock:
    """Seconds of each phase; waits for the device between phases, never inside one."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = {}
        self._device = device

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure the block as a phase."""
        start = time.perf_counter()
        yield
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self.seconds[name] = round(time.perf_counter() - start, 3)


def package_versions() -> dict[str, str]:
    """Return the versions of installed packages; PyAV may be missing, since only writing clips needs it."""
    versions = {}
    for name in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def machine(device: torch.device, dtype: torch.dtype, attention: str, *, compiled: bool) -> dict[str, Any]:
    """Return the device's name, the number format, the attention kernel, and whether the blocks were compiled."""
    on_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_gpu else platform.processor() or platform.machine()
    return {
        "device": name,
        "dtype": str(dtype).removeprefix("torch."),
        "attention": attention,
        "compiled": compiled,
    }
