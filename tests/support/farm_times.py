"""What a farm costs the page: `python tests/support/farm_times.py [--jobs 10000] [--machines 50]`.

Prints how long what the page asks for takes with so many waiting jobs, without machines and while made-up ones
(`farm.simulation`) work on the same queue from a process of their own: milliseconds of the server's processor for each
request, and of the clock. A third row has machines that are listed but do nothing, which tells the load of the machine
from what the page computes.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TIMES = 15
CLIP_SECONDS = 12.0
"""At speed 1."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000, help="that wait (default: %(default)s)")
    parser.add_argument("--machines", type=int, default=50, help="that work (default: %(default)s)")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        work(options.serve, options.machines)
        return
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; milliseconds of the processor (of the clock)\n")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        requests, store = page(Path(folder), options.jobs)
        print("| machines | " + " | ".join(requests) + " |")
        print("|---" * (len(requests) + 1) + "|")
        report("none", requests)
        announce(stack, store, options.machines)
        report(f"{options.machines} that wait", requests)
        stack.close()
        command = [sys.executable, __file__, "--serve", folder, "--machines", str(options.machines)]
        child = subprocess.Popen(command, stdin=subprocess.PIPE)
        try:
            while sum(engine.state == "working" for engine in store.engines()) < options.machines:
                time.sleep(0.5)
            before = store.change_counter(), time.monotonic()
            report(f"{options.machines} that work", requests)
            writes = (store.change_counter() - before[0]) / (time.monotonic() - before[1])
            print(f"\n{writes:.0f} writes a second by the machines meanwhile")
        finally:
            child.kill()
            child.wait()


def page(folder: Path, jobs: int) -> tuple[dict[str, Callable[[], Any]], Any]:
    """Return what the page asks for, by name, and the store."""
    from ovi_studio.core.spec import ClipSpec
    from ovi_studio.farm.simulation import STEPS, VARIANT
    from ovi_studio.queue.estimates import PhaseTimes, record_phase_times
    from ovi_studio.runtime.options import RuntimeOptions
    from ovi_studio.services.studio import Studio
    from ovi_studio.web import header
    from ovi_studio.web.metrics import collect, format_metrics
    from ovi_studio.web.tabs.queue.handlers import ALL, QueueHandlers
    from ovi_studio.web.tabs.system.handlers import SystemHandlers

    studio = Studio.open(folder / "outputs", RuntimeOptions(checkpoint_directory=folder / "checkpoints"))
    studio.supervisor.leads_machines = True
    spec = ClipSpec(prompt="A ball bounces on a wooden floor.", variant=VARIANT, steps=STEPS)
    studio.store.add([replace(spec, seed=seed) for seed in range(jobs)], "many")
    record_phase_times(studio.store.database, spec, PhaseTimes(1.0, 1.0, 1.0, 1.0))
    queue, system = QueueHandlers(studio, None, None), SystemHandlers(studio, None)
    return {
        "line of state": lambda: header._line(studio),
        "queue": lambda: queue.refresh((-1, (), ()), 0, ALL, "", 0),
        "system": lambda: system.refresh(()),
        "metrics": lambda: format_metrics(collect(studio)),
    }, studio.store


def announce(stack: ExitStack, store: Any, machines: int) -> None:
    """List machines that do nothing."""
    from ovi_studio.engine.slot import EngineSlot
    from ovi_studio.farm.roster import MachineState, MachineStatus, publish
    from ovi_studio.farm.simulation import VARIANT
    from ovi_studio.queue.work import EngineSession

    names = [f"made-up{number}" for number in range(machines)]
    publish(store.database, [MachineStatus(name, "GPU", 24.0, (VARIANT,), MachineState.IDLE) for name in names])
    for name in names:
        session = EngineSession(store.database, EngineSlot.of_machine(name).owner("x"))
        stack.enter_context(session).announce("idle", None)


def work(folder: Path, machines: int) -> None:
    """Make clips of the queue with made-up machines, until this process is killed."""
    from ovi_studio.farm.simulation import SPEEDS, _machine
    from ovi_studio.queue.store import Store

    store, stop = Store.open(folder / "outputs"), threading.Event()
    for number in range(machines):
        seconds = CLIP_SECONDS / SPEEDS[number % len(SPEEDS)]
        threading.Thread(target=_machine, args=(store, number, seconds, 0.0, stop, [])).start()


def report(name: str, requests: dict[str, Callable[[], Any]]) -> None:
    cells = []
    for request in requests.values():
        request()
        taken = [timed(request) for _ in range(TIMES)]
        used, passed = (statistics.median(column) for column in zip(*taken, strict=True))
        cells.append(f"{used:.0f} ({passed:.0f})")
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def timed(request: Callable[[], Any]) -> tuple[float, float]:
    used, passed = time.thread_time(), time.perf_counter()
    request()
    return 1000 * (time.thread_time() - used), 1000 * (time.perf_counter() - passed)


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT)]
    main()
