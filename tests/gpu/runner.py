"""Run checks one after the other; whatever happens in one, the others run and everything is reported.

A check must release its memory before the next one starts, otherwise it fails. Checks that would start after the time
limit are reported as not run. A check that hangs cannot be interrupted in its process: some time after the limit, the
results so far are reported and the process ends.
"""

import gc
import math
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

import torch

from gpu.check import Check, CheckFailure, Figure, Findings, Rig, Skipped
from gpu.device import GIB
from ovi_studio.core.errors import is_out_of_memory

KEPT = GIB // 4
"""Bytes of GPU memory that library workspaces may keep from check to check."""


class Verdict(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Result:
    """The result of one check."""

    name: str
    shows: str
    verdict: Verdict
    reason: str = ""
    """Why it did not pass."""
    seconds: float = 0.0
    figures: dict[str, Figure] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def run_checks(
    checks: Iterable[Check], rig: Rig, limit: float, on_start: Callable[[Check], None] = lambda _: None
) -> Iterator[Result]:
    """Yield the result of each check as it finishes; checks that would start after `limit` seconds are not run."""
    end = time.monotonic() + limit
    for check in checks:
        if time.monotonic() >= end:
            yield Result(check.name, check.shows, Verdict.NOT_RUN, "out of time")
            continue
        on_start(check)
        yield run_check(check, rig)


def run_check(check: Check, rig: Rig) -> Result:
    """Run one check in its own folder; exceptions of the check become its verdict."""
    before = _allocated(rig)
    found = Findings()
    start = time.monotonic()
    with tempfile.TemporaryDirectory(dir=rig.folder, ignore_cleanup_errors=True) as folder:
        verdict, reason = _verdict(check, replace(rig, folder=Path(folder)), found)
    _release_memory(rig)
    kept = _allocated(rig) - before
    if kept > KEPT and verdict is Verdict.PASSED:
        verdict, reason = Verdict.FAILED, f"It keeps {kept / GIB:.2f} GiB of GPU memory."
    seconds = time.monotonic() - start
    return Result(check.name, check.shows, verdict, reason, seconds, found.figures, found.left_out)


@contextmanager
def watchdog(seconds: float, on_hang: Callable[[], None]) -> Iterator[None]:
    """Call `on_hang` in another thread if the block takes longer than this."""
    timer = threading.Timer(seconds, on_hang)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _verdict(check: Check, rig: Rig, found: Findings) -> tuple[Verdict, str]:
    try:
        check.run(rig, found)
    except Skipped as skipped:
        return Verdict.SKIPPED, str(skipped)
    except CheckFailure as failure:
        return Verdict.FAILED, str(failure)
    except Exception as error:
        traceback.print_exc()
        # The frames hold tensors whose memory the next check needs.
        traceback.clear_frames(error.__traceback__)
        first = str(error).strip().partition("\n")[0]
        problem = "Memory ran out" if is_out_of_memory(error) else type(error).__name__
        return Verdict.FAILED, f"{problem}: {first}"
    wrong = [name for name, figure in found.figures.items() if not math.isfinite(figure.value)]
    if wrong:
        return Verdict.FAILED, f"The figures for {', '.join(wrong)} are not finite."
    return Verdict.PASSED, ""


def _release_memory(rig: Rig) -> None:
    gc.collect()
    if rig.on_gpu:
        torch.cuda.set_per_process_memory_fraction(1.0, rig.device)
        torch.cuda.empty_cache()


def _allocated(rig: Rig) -> int:
    return torch.cuda.memory_allocated(rig.device) if rig.on_gpu else 0
