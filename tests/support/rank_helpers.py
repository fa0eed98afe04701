"""Helpers for tests on several ranks: real processes and their results."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch.distributed as dist
from places import FORKING_PATH, PYTHON_PATH, SUPPORT
from warm_start import PIPELINES


def run_ranks(count: int, module: str, *arguments: str) -> Any:
    """Run `module` of `tests/ranks` on several ranks.

    Returns what rank 0 writes as JSON to the file of the first argument.
    """
    ended = end_ranks(count, module, *arguments)
    assert ended.returncode == 0, (ended.returncode, ended.stderr[-6000:])
    return json.loads(Path(arguments[0]).read_text())


def end_ranks(count: int, module: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run it to its end, which may be that of a rank that fails."""
    return PIPELINES.run(str(SUPPORT / "several_ranks.py"), str(count), module, *arguments, environment=environment())


def environment(*, forking: bool = False) -> Mapping[str, str]:
    """For commands that start ranks; `forking`: their launchers fork them."""
    paths = FORKING_PATH if forking else PYTHON_PATH
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


class Traffic:
    """Bytes that this rank sends to others in collectives, as `capacity.arithmetic` counts them, by collective."""

    def __init__(self) -> None:
        self.bytes: dict[str, float] = {}
        self.calls: dict[str, int] = {}

    def note(self, name: str, size: float) -> None:
        self.bytes[name] = self.bytes.get(name, 0) + size
        self.calls[name] = self.calls.get(name, 0) + 1


@contextmanager
def counted_traffic() -> Iterator[Traffic]:
    """Counts in torch's own functions; weights gathered by FSDP count as `gathered`."""
    traffic = Traffic()
    originals = {}

    def watch(name: str, size: Any) -> None:
        original = originals[name] = getattr(dist, name)

        def counting(*given: Any, **options: Any) -> Any:
            group = options.get("group")
            kind, amount = size(given, dist.get_world_size(group))
            traffic.note(kind, amount)
            return original(*given, **options)

        setattr(dist, name, counting)

    def of(tensor: Any) -> int:
        return tensor.numel() * tensor.element_size()

    watch("all_to_all_single", lambda given, ranks: ("exchanged", of(given[1]) * (ranks - 1) / ranks))
    watch("all_reduce", lambda given, ranks: ("exchanged", 2 * of(given[0]) * (ranks - 1) / ranks))
    watch("all_gather_into_tensor", lambda given, ranks: (_kind(given[1]), of(given[1]) * (ranks - 1)))
    if hasattr(dist, "all_gather_single"):  # what FSDP calls from torch 2.13 on
        watch("all_gather_single", lambda given, ranks: ("gathered", of(given[1]) * (ranks - 1)))
    watch("broadcast", lambda given, ranks: ("handed round", of(given[0])))
    try:
        yield traffic
    finally:
        for name, original in originals.items():
            setattr(dist, name, original)


def _kind(part: Any) -> str:
    """FSDP gathers flat tensors."""
    return "gathered" if part.dim() == 1 else "exchanged"
