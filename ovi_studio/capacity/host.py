"""Host memory that this process may have, also in a container, and a sentence before it runs out. Imports no torch.

Models that do not fit end in the kernel's kill, which leaves no message; so what they need is compared before they are
loaded, by the same figures with which the doctor says what a machine can run.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from ovi_studio.capacity.budget import HOST_RESERVE
from ovi_studio.core.errors import JobError

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")


@dataclass(frozen=True)
class HostMemory:
    """In bytes."""

    total: int
    available: int
    """What files in the cache take counts as available: it is given up when it is needed."""


def host_memory() -> HostMemory:
    """Of this machine, or of the container if that is less."""
    machine = psutil.virtual_memory()
    limits = [HostMemory(machine.total, machine.available), *_container_limits()]
    return HostMemory(min(limit.total for limit in limits), min(limit.available for limit in limits))


def require_host_memory(needed: float, what: str, advice: str) -> None:
    """Raises `JobError` if models that need so many bytes cannot be held; `advice` says what would need less."""
    available = host_memory().available - HOST_RESERVE
    if needed > available:
        raise JobError(
            f"{what} needs {needed / 1e9:.0f} GB of host memory for its models, but {max(0.0, available) / 1e9:.0f} GB "
            f"can be had; close other programs, {advice}."
        )


def _container_limits() -> Iterator[HostMemory]:
    """Of every control group that this process is in, from its own one up."""
    try:
        entries = _OWN_CGROUP.read_text(encoding="utf-8").splitlines()
    except OSError:
        return  # no Linux
    for entry in entries:
        _, controllers, path = entry.split(":", 2)
        if controllers == "":
            root, names = _CGROUPS, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            root = _CGROUPS / "memory"
        else:
            continue
        own = root / path.lstrip("/")
        # In a container the group's own path may not be there, but its limits are at the root.
        for group in [own, *own.parents]:
            if limit := _limit(group, *names):
                yield limit
            if group == root:
                break


def _limit(group: Path, maximum: str, current: str, cached: str) -> HostMemory | None:
    try:
        total = int((group / maximum).read_text())
        used = int((group / current).read_text())
        counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return HostMemory(total, max(0, total - used + int(counts.get(cached, 0))))
    except (OSError, ValueError):
        return None  # no such group, or "max": without a limit
