"""Which attention kernel runs: the requested one, or by `auto` the fastest exact one on this machine.

`auto` measures once for each GPU model and version of the kernels' packages, which takes about a second, and keeps the
result in the cache folder. On a CPU, and in float32, there is nothing to choose from.
"""

import hashlib
import importlib.metadata
import json
import logging
import math
from contextlib import suppress
from functools import partial
from typing import Any

import torch

from ovi_studio.capacity.tiers import AUTO
from ovi_studio.checkpoints.hashes import cache_directory
from ovi_studio.core.errors import JobError, is_out_of_memory
from ovi_studio.distributed.ranks import ALONE, Ranks
from ovi_studio.media.small_files import write_atomically
from ovi_studio.models import attention_timing
from ovi_studio.models.attention import attention, choose_backend
from ovi_studio.models.attention_kernels import KERNELS, NATIVE

_GAIN = 0.97
"""Another kernel must take at most this part of the native one's time, so that noise does not decide."""

Seconds = dict[str, list[float]]
"""Kernel -> seconds for each of `attention_timing.MEASURED_TOKENS`; without the kernels that failed."""

log = logging.getLogger(__name__)


def choose_attention(
    requested: str, tokens: int, device: torch.device, dtype: torch.dtype, ranks: Ranks = ALONE
) -> str:
    """Return the name of the kernel that runs, the same on all ranks, which must call this together.

    Args:
        requested: a kernel, or `AUTO`.
        tokens: video tokens of the clips to be made.

    Raises `JobError` if the requested kernel does not run here.
    """
    if requested != AUTO:
        choose_backend(requested, device, dtype)
        return requested
    shared = set.intersection(*map(set, ranks.all_gather(exact_kernels(device, dtype))))
    return ranks.broadcast(_fastest(shared, tokens, device, dtype) if ranks.is_leader else NATIVE)


def exact_kernels(device: torch.device, dtype: torch.dtype) -> list[str]:
    """Return the names of the exact kernels that a device can run in a number format; the native one is among them."""
    found = []
    for name, kernel in KERNELS.items():
        if kernel.exact:
            with suppress(JobError):
                choose_backend(name, device, dtype)
                found.append(name)
    return found


def _fastest(names: set[str], tokens: int, device: torch.device, dtype: torch.dtype) -> str:
    if names == {NATIVE}:
        return NATIVE
    seconds = _measured(sorted(names), device, dtype)
    distances = [abs(math.log(tokens / measured)) for measured in attention_timing.MEASURED_TOKENS]
    nearest = distances.index(min(distances))
    best = min(seconds, key=lambda name: seconds[name][nearest], default=NATIVE)
    gains = NATIVE not in seconds or seconds[best][nearest] <= _GAIN * seconds[NATIVE][nearest]
    return best if gains else NATIVE


def _measured(names: list[str], device: torch.device, dtype: torch.dtype) -> Seconds:
    """Return the remembered measurements of these kernels, or measure and remember."""
    subject = {
        "gpu": torch.cuda.get_device_name(device),
        "dtype": str(dtype),
        "tokens": list(attention_timing.MEASURED_TOKENS),
        "kernels": {name: _version(name) for name in names},
    }
    path = cache_directory() / "attention" / f"{hashlib.sha256(json.dumps(subject).encode()).hexdigest()[:16]}.json"
    # A file that cannot be read, or is not ours, is replaced.
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["subject"] == subject:
            return {name: [float(one) for one in kept["seconds"][name]] for name in kept["seconds"]}
    seconds = _measure(names, device, dtype)
    log.info("Attention on %s, seconds for %s tokens: %s", subject["gpu"], subject["tokens"], seconds)
    try:
        write_atomically(path, json.dumps({"subject": subject, "seconds": seconds}, indent=1).encode())
    except JobError as error:
        log.warning("The measurement of attention kernels could not be kept: %s", error)
    return seconds


def _measure(names: list[str], device: torch.device, dtype: torch.dtype) -> Seconds:
    seconds: Seconds = {}
    for name in names:
        attend = partial(attention, backend=choose_backend(name, device, dtype))
        try:
            seconds[name] = [
                attention_timing.time_attention(attend, tokens, device, dtype)
                for tokens in attention_timing.MEASURED_TOKENS
            ]
        except Exception as error:  # a package built for another GPU or torch fails in any way
            if is_out_of_memory(error):
                raise
            log.warning(
                "Attention %r failed on %s and is not used: %s", name, torch.cuda.get_device_name(device), error
            )
    return seconds


def _version(name: str) -> str | None:
    package: Any = KERNELS[name].package
    if package == "torch":
        return torch.__version__  # with the version of CUDA, which the package's does not always have
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return None
