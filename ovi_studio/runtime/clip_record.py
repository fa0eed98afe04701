"""Parts of a clip's record: the time of each phase, package versions, and the machine."""

import importlib.metadata
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch

from ovi_studio.core.spec import ClipSpec
from ovi_studio.sampling.kept import Kept, KeptStream

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


def source_record(spec: ClipSpec, kept: Kept) -> dict[str, Any]:
    """Return what a clip has of its source: the file's name and hash, and of each half how much.

    A half of which all is kept is the file's own picture or sound; of others the latents are kept, and decoded.
    """
    return {
        "name": "" if spec.source is None else spec.source.name,
        "sha256": spec.source_sha256,
        "picture": _kept_record(kept.video),
        "sound": _kept_record(kept.audio),
    }


def _kept_record(stream: KeptStream | None) -> dict[str, Any] | None:
    if stream is None:
        return None
    return {"kept_latents": int(stream.mask.sum()), "latents": stream.mask.numel(), "unchanged": stream.whole}
