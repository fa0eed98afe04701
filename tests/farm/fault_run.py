"""A farm under random faults: `python tests/farm/fault_run.py --faults 50`; `test_fault_run.py` is its short form.

Two machines in networks of their own, a page, its farm process and Ray's head, all real processes. At random moments
one is killed, or a cable is pulled, made slow, or cut in one direction. A fault that may cost a job a try waits until
all that are made are in their first one, since a job whose process ends twice fails, as is intended. The others, of
which there are twice as many, need not wait. The run fails if the queue is done before all faults have happened.
"""

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "support"), str(Path(__file__).parents[2])]

import psutil  # noqa: E402
from engine_helpers import assert_done_exactly_once, wait_for  # noqa: E402
from fake_models import MIXED  # noqa: E402
from farm_helpers import BY_COMMAND, free_port, spec  # noqa: E402
from machines import HEAD, Machine, kill, machines, possible  # noqa: E402

from ovi_studio.farm.command import FarmAddress, farm_command, token_file  # noqa: E402
from ovi_studio.queue.model import JobState  # noqa: E402
from ovi_studio.queue.store import Store  # noqa: E402
from ovi_studio.runtime.options import RuntimeOptions  # noqa: E402

MACHINES = 2
PAUSE = (0.5, 3.0)
"""Seconds between a fault and the next."""
LASTS = (1.0, 8.0)
"""Seconds that a fault of a cable lasts."""
COSTLY = ("actor killed", "head killed", "farm process killed", "cut in one direction")
"""Kinds of faults that may cost a job a try."""
SPARING = ("node killed", "power lost", "page killed", "cable pulled", "network slow")
_PAGE = """
import json, sys, time
from ovi_studio.engine.slot import EngineSlot
from ovi_studio.engine.supervisor import Supervisor
from ovi_studio.queue.locks import Lock
from ovi_studio.queue.store import Store
store = Store.open(sys.argv[1])
lock = Lock.acquire(store.paths.web_lock, 30)
Supervisor(store, json.loads(sys.argv[2]), back_off=(0.2,) * 100, slot=EngineSlot.of_farm()).start()
time.sleep(36000)
"""


@dataclass
class Outcome:
    """What a run found."""

    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    tries: Counter[int] = field(default_factory=Counter)
    """Jobs by how often they were begun, without what did not count."""

    def __str__(self) -> str:
        faults = ", ".join(f"{count} x {name}" for name, count in sorted(self.faults.items()))
        tries = ", ".join(f"{count} in try {number}" for number, count in sorted(self.tries.items()))
        return f"{self.seconds:.0f} s; {self.faults.total()} faults ({faults}); jobs done: {tries}"


class Farm:
    """The page's side, and the faults."""

    def __init__(self, store: Store, found: list[Machine], folder: Path, chance: random.Random) -> None:
        self.store, self.machines, self._folder, self._chance = store, found, folder, chance
        self._address = FarmAddress(HEAD, free_port())
        self._token = token_file(store.paths).read_text()
        self._page = self._open_page()
        wait_for(lambda: any(engine.ready for engine in store.engines()), 120)
        for machine in found:
            self._join(machine)

    def faults(self) -> dict[str, Callable[[Machine], None]]:
        """Whatever can go wrong, by name."""
        return {
            "actor killed": lambda machine: kill(machine.actors()),
            "node killed": Machine.kill_node,
            "power lost": self._power_lost,
            "head killed": lambda _: self._kill("gcs_server", f"--gcs_server_port={self._address.port}"),
            "farm process killed": lambda _: self._kill("ovi_studio.farm", str(self.store.paths.outputs)),
            "page killed": lambda _: self._kill_page(),
            "cable pulled": self._cable_pulled,
            "network slow": self._slow,
            "cut in one direction": self._deaf,
        }

    def bears(self, kind: str) -> bool:
        """Whether a job is being made, and all that are made can bear a fault."""
        found = self.store.jobs(states=[JobState.RUNNING])
        return any(job.progress for job in found) and (kind in SPARING or all(job.attempt == 1 for job in found))

    def close(self) -> None:
        kill([psutil.Process(self._page.pid)])
        self._page.wait()
        self._kill("ovi_studio.farm", str(self.store.paths.outputs))
        own = (str(self._address), f"--port={self._address.port}", f"--gcs_server_port={self._address.port}")
        kill(
            process
            for process in psutil.process_iter(["cmdline"])
            if any(word in part for part in process.info["cmdline"] or [] for word in own)
        )

    def _open_page(self) -> subprocess.Popen:
        command = farm_command(self.store.paths, self._address, RuntimeOptions(), MIXED)
        return subprocess.Popen([sys.executable, "-c", _PAGE, str(self.store.paths.outputs), json.dumps(command)])

    def _join(self, machine: Machine) -> None:
        machine.join(self._address.port, self._token, self._folder / f"{machine.name}.log", self._folder)

    def _kill(self, *words: str) -> None:
        for process in psutil.process_iter(["cmdline"]):
            line = process.info["cmdline"] or []
            if "-c" not in line and all(any(word in part for part in line) for word in words):
                kill([process])
                return

    def _kill_page(self) -> None:
        kill([psutil.Process(self._page.pid)])
        self._page.wait()
        time.sleep(self._chance.uniform(0, 3))
        self._page = self._open_page()

    def _power_lost(self, machine: Machine) -> None:
        machine.kill_all()
        time.sleep(self._chance.uniform(*LASTS))
        self._join(machine)

    def _cable_pulled(self, machine: Machine) -> None:
        machine.cable(up=False)
        time.sleep(self._chance.uniform(*LASTS))
        machine.cable(up=True)

    def _slow(self, machine: Machine) -> None:
        machine.slow(True)
        time.sleep(self._chance.uniform(*LASTS))
        machine.slow(False)

    def _deaf(self, machine: Machine) -> None:
        machine.deaf(True)
        time.sleep(self._chance.uniform(*LASTS))
        machine.deaf(False)


def shuffled(faults: int, chance: random.Random) -> list[str]:
    """Kinds of faults in a random order, each as often as the others of its sort."""
    kinds: list[str] = []
    while len(kinds) < faults:
        for sort in (SPARING, COSTLY, SPARING):
            kinds += chance.sample(sort, len(sort))
    kinds = kinds[:faults]
    chance.shuffle(kinds)
    return kinds


def run(
    folder: Path, kinds: Sequence[str], jobs: int, steps: int, chance: random.Random, limit: float, *, real: int = 0
) -> Outcome:
    """Make `jobs` clips, of which `real` are the embedded model's, under these faults; raises `AssertionError`."""
    outcome, started, left = Outcome(), time.monotonic(), list(kinds)
    store = Store.open(folder / "outputs")
    with contextlib.ExitStack() as stack:
        stack.callback(store.close)
        farm = Farm(store, stack.enter_context(machines(MACHINES)), folder, chance)
        stack.callback(farm.close)
        ids = store.add(
            [spec("embedded") if number < real else spec("wait", steps=steps, seed=number) for number in range(jobs)]
        )
        while left:
            assert not _ended(store), f"the queue is done after {outcome}; make longer clips"
            assert time.monotonic() - started < limit, f"no fault is possible after {outcome}"
            time.sleep(chance.uniform(*PAUSE))
            # Those that have to wait come first once they need not, and the others fill the time between.
            possible_now = [kind for kind in sorted(left, key=COSTLY.__contains__, reverse=True) if farm.bears(kind)]
            if possible_now:
                kind = possible_now[0]
                print(f"{time.monotonic() - started:6.0f} s: {kind}; {store.counts()[JobState.DONE]} done", flush=True)
                farm.faults()[kind](chance.choice(farm.machines))
                left.remove(kind)
                outcome.faults[kind] += 1
        while not _ended(store):
            assert time.monotonic() - started < limit, f"jobs are not done after {outcome}"
            time.sleep(0.2)
        assert_done_exactly_once(store, ids)
        outcome.tries.update(store.get(job).attempt for job in ids)
    outcome.seconds = time.monotonic() - started
    return outcome


def _ended(store: Store) -> bool:
    return not store.ids(states=[JobState.QUEUED, JobState.RUNNING])


def main() -> None:
    """Run for as long as is asked, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--faults", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=30)
    parser.add_argument("--steps", type=int, default=400, help="of a job, 50 ms each (default: %(default)s)")
    parser.add_argument("--real", type=int, default=4, help="clips of the embedded model (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=float, default=3600, help="seconds (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="for the clips and logs (default: a temporary one)")
    options = parser.parse_args()
    if not possible():
        sys.exit("Networks of their own need Linux, root and `ip`.")
    os.environ |= BY_COMMAND
    folder = options.folder or Path(tempfile.mkdtemp(prefix="ovi-faults-"))
    chance = random.Random(options.seed)
    kinds = shuffled(options.faults, chance)
    print(run(folder, kinds, options.jobs, options.steps, chance, options.limit, real=options.real))


if __name__ == "__main__":
    main()
