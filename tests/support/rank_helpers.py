"""Helpers for tests on several ranks: real processes and their results."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch.distributed as dist
from places import FORKING_PATH, PYTHON_PATH, ROOT, SUPPORT


class RankServer:
    """A process that forks ranks, started with the first order (see `rank_server`)."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(self, count: int, module: str, *arguments: str) -> Any:
        """Run `module` of `tests/ranks`; returns what rank 0 writes as JSON to the file of the first argument."""
        status, said = self.end(count, module, *arguments)
        assert status == 0, (status, said[-6000:])
        return json.loads(Path(arguments[0]).read_text())

    def end(self, count: int, module: str, *arguments: str) -> tuple[int, str]:
        """Run it; returns the exit status of the first rank that failed, or 0, and what the ranks have said."""
        output = Path(arguments[0]).with_suffix(".output")
        order = {"count": count, "module": module, "arguments": arguments, "output": str(output)}
        if self._process is None:
            command = [sys.executable, str(SUPPORT / "rank_server.py")]
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(command, env=environment(), cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
        print(json.dumps(order), file=self._process.stdin, flush=True)
        status = int(self._process.stdout.readline())
        return status, output.read_text(encoding="utf-8") if output.exists() else ""

    def close(self) -> None:
        if self._process is not None:
            self._process.stdin.close()
            assert self._process.wait(60) == 0


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
