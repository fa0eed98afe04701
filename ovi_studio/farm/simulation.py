"""`python -m ovi_studio.farm.simulation`: a queue with many made-up machines, on the real store and the real engine.

A made-up machine sleeps as long as its clips would take, reports every step, returns a file of the usual size, and
fails now and then as one that lost its power. Everything else is what a farm does: claims, progress, writing of files,
recovery. Shows what the scheduler loses against the ideal, and when the one database becomes the limit. Needs no Ray.
"""

import argparse
import random
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ovi_studio.core.spec import ClipSpec
from ovi_studio.engine.executor import ClipFacts, ExecutorFault, MadeClip
from ovi_studio.engine.loop import Engine
from ovi_studio.engine.slot import EngineSlot
from ovi_studio.media.clip_files import EncodedClip
from ovi_studio.queue.model import ClipPhase, JobState
from ovi_studio.queue.recovery import recover_dead_engines
from ovi_studio.queue.store import Store
from ovi_studio.queue.work import EngineSession
from ovi_studio.runtime.progress import ProgressSink
from ovi_studio.runtime.step_down import StepDown

VARIANT = "720x720_5s"
STEPS = 10
MOVIE_BYTES = 2 * 2**20
SPEEDS = (1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Outcome:
    """What a simulation found."""

    machines: int
    clips: int
    seconds: float
    efficiency: float
    """Part of the time until each machine's last clip in which it computed a clip that was made."""
    overhead: float
    """Seconds for each clip in which its machine did not compute it, with what failures cost."""
    shares: Sequence[int]
    """Clips that each machine made."""
    writes_per_second: float
    """Transactions that changed the database."""
    slowest_read: float
    """Seconds that the page's list of jobs took at worst meanwhile."""


class SleepingExecutor:
    """An `Executor` that takes `seconds` for a clip, and fails with a probability."""

    variant: str | None = VARIANT
    steps_down_itself = True

    def __init__(self, seconds: float, failures: float, seed: int) -> None:
        self.usable = True
        self.ends: list[float] = []
        """When clips were made, by a monotonic clock."""
        self._seconds = seconds
        self._failures = failures
        self._random = random.Random(seed)

    def variants(self) -> Collection[str]:
        """See `Executor`."""
        return [VARIANT]

    def make(self, spec: ClipSpec, progress: ProgressSink, facts: ClipFacts) -> MadeClip:
        """See `Executor`."""
        progress.phase(ClipPhase.TEXT)
        start = time.monotonic()
        for index in range(1, spec.steps + 1):
            # What reporting takes is no part of a step, as on a machine that computes meanwhile.
            time.sleep(max(0.0, start + self._seconds * index / spec.steps - time.monotonic()))
            progress.step(index, spec.steps)
            if self._random.random() < self._failures / spec.steps:
                self.usable = False
                raise ExecutorFault("the machine has lost its power")
        progress.phase(ClipPhase.WRITING)
        self.ends.append(time.monotonic())
        return MadeClip(EncodedClip(bytes(MOVIE_BYTES), bytes(1000)), np.zeros((1, 2, 2, 3), np.uint8))

    def next_step_down(self) -> StepDown | None:
        """See `Executor`."""
        return None

    def step_down(self, step: StepDown) -> None:
        """See `Executor`."""

    def memory_advice(self, spec: ClipSpec, below: StepDown | None) -> str:
        """See `Executor`."""
        return ""

    def on_peer_loss(self, call: Callable[[bool], None]) -> None:
        """See `Executor`."""

    def close(self) -> None:
        """See `Executor`."""


def simulate(
    folder: Path, speeds: Sequence[float], clips: int, seconds: float, *, failures: float = 0.0, waiting: int = 0
) -> Outcome:
    """Make clips with one machine for each speed.

    Args:
        seconds: for a clip at speed 1.
        failures: probability that a machine fails during a clip; it is back after the time of a clip.
        waiting: other jobs in the queue that nobody makes, for the page's sake.
    """
    store = Store.open(folder / "outputs")
    spec = ClipSpec(prompt="a clip", variant=VARIANT, steps=STEPS)
    if waiting:
        store.add([replace(spec, variant="960x960_10s")] * waiting)
    store.add([spec] * clips)
    stop = threading.Event()
    lives: list[list[SleepingExecutor]] = [[] for _ in speeds]
    threads = [
        threading.Thread(target=_machine, args=(store, number, seconds / speed, failures, stop, lives[number]))
        for number, speed in enumerate(speeds)
    ]
    before, start = store.change_counter(), time.monotonic()
    for thread in threads:
        thread.start()
    slowest = 0.0
    while store.counts()[JobState.DONE] < clips:
        asked = time.monotonic()
        store.jobs()
        slowest = max(slowest, time.monotonic() - asked)
        recover_dead_engines(store.database)
        time.sleep(0.5)
    taken = time.monotonic() - start
    writes = store.change_counter() - before
    stop.set()
    for thread in threads:
        thread.join()
    store.close()
    ends = [[end for executor in machine for end in executor.ends] for machine in lives]
    busy = sum(len(machine) * seconds / speed for machine, speed in zip(ends, speeds, strict=True))
    there = sum(max(machine) - start for machine in ends if machine)
    return Outcome(
        len(speeds),
        clips,
        taken,
        busy / there,
        (there - busy) / clips,
        [len(machine) for machine in ends],
        writes / taken,
        slowest,
    )


def _machine(
    store: Store, number: int, seconds: float, failures: float, stop: threading.Event, lives: list[SleepingExecutor]
) -> None:
    while not stop.is_set():
        executor = SleepingExecutor(seconds, failures, seed=1000 * number + len(lives))
        lives.append(executor)
        owner = EngineSlot.of_machine(f"made-up{number}").owner(str(len(lives)))
        try:
            with EngineSession(store.database, owner) as work:
                Engine(work, executor, stop, patrols=False).serve()
        except RuntimeError:  # what the loop raises when its executor cannot go on
            stop.wait(seconds)


def main() -> None:
    """Print a table of farms of 2 to 200 machines."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--machines", type=int, nargs="+", default=[2, 10, 50, 200])
    parser.add_argument("--clips", type=int, default=6, help="for each machine (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=12.0, help="for a clip at speed 1 (default: %(default)s)")
    parser.add_argument("--failures", type=float, default=0.02, help="of each clip (default: %(default)s)")
    options = parser.parse_args()
    print(
        "| machines | clips | clips an hour | of the ideal | overhead a clip | writes a second | slowest list of jobs |"
    )
    print("|---|---|---|---|---|---|---|")
    for count in options.machines:
        speeds = [SPEEDS[number % len(SPEEDS)] for number in range(count)]
        with tempfile.TemporaryDirectory() as folder:
            found = simulate(Path(folder), speeds, options.clips * count, options.seconds, failures=options.failures)
        hour = found.clips / found.seconds * 3600
        cells = [f"{found.machines}", f"{found.clips}", f"{hour:.0f}", f"{found.efficiency:.0%}"]
        cells += [f"{found.overhead * 1000:.0f} ms"]
        cells += [f"{found.writes_per_second:.0f}", f"{found.slowest_read * 1000:.0f} ms"]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
