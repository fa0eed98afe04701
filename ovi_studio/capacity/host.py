"""Host memory that is available to this process, also in a container, and a check before it runs out. Imports no torch.

If models do not fit, the kernel kills the process without a message; so their size is checked before they are loaded,
with the same figures that the doctor uses.
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
    """Host memory in bytes."""

    total: int
    available: int
    """Includes the file cache, which is released when memory is needed."""


def host_memory() -> HostMemory:
    """The memory of this machine, or of the container if that is less."""
    machine = psutil.virtual_memory()
    limits = [HostMemory(machine.total, machine.available), *_container_limits()]
    return HostMemory(min(limit.total for limit in limits), min(limit.available for limit in limits))


def require_host_memory(needed: float, what: str, advice: str) -> None:
    """Raise `JobError` if models that need this many bytes do not fit; `advice` says what would need less."""
    available = host_memory().available - HOST_RESERVE
    if needed > available:
        raise JobError(
            f"{what} needs {needed / 1e9:.0f} GB of host memory for its models, but {max(0.0, available) / 1e9:.0f} GB "
            f"are available; close other programs, {advice}."
        )


def _container_limits() -> Iterator[HostMemory]:
    """The limits of every control group of this process, from its own up to the root."""
    try:
        entries = _OWN_CGROUP.read_text(encoding="utf-8").splitlines()
    except OSError:
        return  # not Linux
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
        # In a container the group's own path may not exist, but its limits are at the root.
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
        return None  # no such group, or "max", which means no limit
