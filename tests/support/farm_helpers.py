"""A farm on this machine: Ray nodes that are real processes, and a dispatcher in a thread of the test."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator

import psutil
from engine_helpers import wait_for
from fake_models import NAME
from places import PYTHON_PATH, SUPPORT

from ovi_studio.adapters.library import AdapterLibrary
from ovi_studio.checkpoints.layout import complete_variants
from ovi_studio.core.spec import ClipSpec
from ovi_studio.engine.executor import LocalExecutor
from ovi_studio.engine.loop import Engine
from ovi_studio.engine.slot import EngineSlot
from ovi_studio.engine.supervisor import Supervisor, tail
from ovi_studio.farm.command import FarmAddress, farm_command
from ovi_studio.farm.machine import NAME_LABEL, RANKS_LABEL, Machine, Versions, fingerprints
from ovi_studio.farm.roster import machines
from ovi_studio.queue.locks import Lock
from ovi_studio.queue.store import Store
from ovi_studio.queue.work import EngineSession
from ovi_studio.runtime.clip_runner import ClipRunner
from ovi_studio.runtime.options import RuntimeOptions

OPTIONS = RuntimeOptions(memory="16")
VARIANT = complete_variants(RuntimeOptions().checkpoints)[-1].name
"""The embedded one, which every machine has."""
TOKEN = "0123456789abcdef" * 4
BACK_OFF = (0.1, 0.2, 0.4)
WAITED_FOR = {"RAY_worker_niceness": "0"}
"""For nodes: Ray lets its workers yield to every other process, but tests wait for them."""
BY_COMMAND = WAITED_FOR | {"PYTHONPATH": os.pathsep.join((str(SUPPORT / "idle_agents"), PYTHON_PATH))}
"""The same for nodes that a command starts, which have no real agents either (see `idle_agent`)."""
_LEAST = {
    "object_store_memory": 80 * 2**20,
    "include_log_monitor": False,
    "setup_worker_path": str(SUPPORT / "worker_setup.py"),
}


def spec(prompt: str = "a clip", **settings: object) -> ClipSpec:
    return ClipSpec(**{"prompt": prompt, "variant": VARIANT, "steps": 3} | settings)


@contextlib.contextmanager
def cluster() -> Iterator[object]:
    """A head without machines, to which this process is connected."""
    import ray
    from ray.cluster_utils import Cluster

    found = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "include_dashboard": False, "no_monitor": True, **_LEAST},
    )
    try:
        ray.init(address=found.address, log_to_driver=False, logging_level="error")
        yield found
    finally:
        ray.shutdown()
        found.shutdown()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def add_machine(found: object, name: str, *, ranks: int = 1, gpus: int = 0) -> object:
    """Add a node to the cluster; of its GPUs only Ray believes that they are there."""
    labels = {NAME_LABEL: name, RANKS_LABEL: str(ranks)}
    return found.add_node(num_cpus=1, num_gpus=gpus, labels=labels, **_LEAST)


@contextlib.contextmanager
def home(store: Store) -> Iterator[None]:
    """Serve the queue with this process, as `dispatcher` does with machines."""
    stop = threading.Event()

    def serve() -> None:
        with EngineSession(store.database, EngineSlot().owner("test")) as work:
            Engine(work, LocalExecutor(ClipRunner(OPTIONS, models=NAME)), stop).serve()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)


@contextlib.contextmanager
def dispatcher(
    store: Store,
    head: Machine | None = None,
    options: RuntimeOptions = OPTIONS,
    models: str = NAME,
    **more: object,
) -> Iterator[threading.Event]:
    """Serve the queue with the machines of the cluster; the event ends it, as the end of the block does."""
    from ovi_studio.farm.actor import ActorSetup
    from ovi_studio.farm.dispatcher import Dispatcher

    stop = threading.Event()
    facts = head or Machine("head", Versions.here(), variants=fingerprints(OPTIONS.checkpoints))
    setup = ActorSetup(options, models=models)
    adapters = AdapterLibrary(OPTIONS.adapters)
    failures = []

    def serve() -> None:
        try:
            with EngineSession(store.database, EngineSlot.of_farm().owner("test")) as work:
                Dispatcher(
                    work, setup, facts, adapters, stop, **{"back_off": BACK_OFF, "notice_after": 0.0} | more
                ).serve()
        except BaseException as error:
            failures.append(error)
            raise

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(60)
    assert not failures


@contextlib.contextmanager
def supervised_farm(store: Store, address: FarmAddress, options: RuntimeOptions | None = None) -> Iterator[Supervisor]:
    """The farm process as the page runs it: started again when it ends."""
    command = farm_command(store.paths, address, options or RuntimeOptions(), NAME)
    supervisor = Supervisor(store, command, back_off=(0.1, 0.2, 0.4), slot=EngineSlot.of_farm())
    # Its process ends when there is no page, which holds this lock.
    with Lock.acquire(store.paths.web_lock, 1):
        supervisor.start()
        try:
            yield supervisor
        except BaseException as error:
            error.add_note("\n".join(["What the farm process said:", str(supervisor.status()), *_log(store)]))
            raise
        finally:
            supervisor.stop()


def _log(store: Store) -> Iterator[str]:
    for log in (store.paths.log, store.paths.engine_stderr):
        yield from tail(EngineSlot.of_farm().file(log), 40)


def wait_for_machines(store: Store, *names: str) -> None:
    wait_for(lambda: {one.name for one in machines(store.database) if one.variants} >= set(names), 90)


def kill_actors(node: object | None = None) -> int:
    """Kill the processes of actors; of one node, or all that this process has started. Returns how many."""
    top = psutil.Process() if node is None else _raylet(node)
    found = []
    for process in top.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if (process.cmdline() or [""])[0].startswith("ray::ClipActor"):
                process.kill()
                found.append(process)
    return len(found)


def kill_node(node: object) -> None:
    """Kill all processes of a node at once, as a power cut does."""
    raylet = _raylet(node)
    for process in [raylet, *raylet.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _raylet(node: object) -> psutil.Process:
    return psutil.Process(node.all_processes["raylet"][0].process.pid)
