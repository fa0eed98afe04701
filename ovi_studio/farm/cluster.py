"""Ray's processes: the head, the node of a machine, and whether a head answers. Imports ray only where it is used."""

import contextlib
import json
import logging
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import psutil

from ovi_studio.checkpoints.disk import RESUMES
from ovi_studio.core.child_processes import child_environment
from ovi_studio.core.errors import JobError, Stopped
from ovi_studio.farm.command import TOKEN_PATH_VARIABLE, TOKEN_VARIABLE, FarmAddress
from ovi_studio.farm.machine import FACTS_KEY, Machine
from ovi_studio.farm.models import Ask, ModelShelf

OBJECT_STORE_BYTES = 200 * 2**20
"""Pieces of files pass through the store; nothing is kept there."""
NAMESPACE = "ovi-studio"
"""Of our actors."""
SHELF_KEY = b"ovi_studio_models"
_NAMESPACE = b"ovi_studio"
_LEAVE_SECONDS = 20.0
_POLL_SECONDS = 0.2
_HASHING_SECONDS = 1800.0
_STARTS_SECONDS = 120.0
_CONNECT_SECONDS = 3.0

log = logging.getLogger(__name__)


class HeadNotReady(JobError):
    """There is no head of a farm, or not yet."""


@contextlib.contextmanager
def connected(address: FarmAddress, environment: Mapping[str, str], stopping: Callable[[], bool]) -> Iterator[None]:
    """Connect this process to the cluster; its own head is started first, and ended at last.

    If that head ends by itself, so does this process. Raises `JobError`, and `Stopped` if the process is asked to end
    before the cluster is there. No thread may use Ray at the end: it would abort the process.
    """
    import ray

    with _own_head(address, environment, stopping) if address.own else contextlib.nullcontext():
        while not answers(address):  # a cluster that is there already may be starting again
            _wait(stopping)
        own = {"_node_ip_address": address.host} if address.own else {}
        ray.init(address=str(address), log_to_driver=False, logging_level="error", namespace=NAMESPACE, **own)
        try:
            yield
        finally:
            ray.shutdown()  # the interpreter's end would come while Ray's own threads still run


@contextlib.contextmanager
def _own_head(address: FarmAddress, environment: Mapping[str, str], stopping: Callable[[], bool]) -> Iterator[None]:
    head = start_head(address, environment, stopping)
    over = threading.Event()
    threading.Thread(target=end_with_head, args=(head, over), name="head", daemon=True).start()
    try:
        yield
    finally:
        over.set()
        end_node(head)


def end_with_head(head: psutil.Process, over: threading.Event) -> None:
    """End this process at once when the head has ended, unless it is over before.

    Whoever asks Ray anything then waits for the head, until Ray aborts the process half a minute later.
    """
    while not over.wait(_POLL_SECONDS):
        if not _runs(head):
            log.error("Ray's head has ended, and so does this process; the next one starts another head.")
            logging.shutdown()
            os._exit(1)


def start_head(address: FarmAddress, environment: Mapping[str, str], stopping: Callable[[], bool]) -> psutil.Process:
    """Start a head that makes no clips itself, and wait until it answers; raises as `connected` does.

    A farm process that was killed leaves its head behind; then that one is returned.
    """
    head = _find_head(address, environment)
    if head is None and answers(address):
        raise JobError(
            f"Another program, or the head of another studio, uses {address}; choose another port with --farm "
            f"ADDRESS:PORT."
        )
    with tempfile.TemporaryFile() as said:
        head = head or _start_head(address, environment, said)
        deadline = time.monotonic() + _STARTS_SECONDS
        try:
            while not answers(address):
                if not _runs(head) or time.monotonic() > deadline:
                    raise JobError(
                        f"Ray's head does not start on {address}; check that this is an address of this machine and "
                        f"that the port is free, or choose others with --farm ADDRESS:PORT.{_last_line(said)}"
                    )
                _wait(stopping)
        except BaseException:
            end_node(head)
            raise
    return head


def _start_head(address: FarmAddress, environment: Mapping[str, str], said: IO[bytes]) -> psutil.Process:
    _forget_head(address)
    # Its resources are 0, since the head's own GPUs are used by the page's engines, and nothing scales them.
    none = ("--num-cpus=0", "--num-gpus=0", "--no-monitor")
    return _start([*_head_options(address), *none, *_dashboard_options()], environment, said)


def _forget_head(address: FarmAddress) -> None:
    """Let Ray start a head where the one before has ended.

    It refuses if that was the last cluster that this machine belonged to and one of its nodes is still here, as that of
    a machine that joined from here, which tries to reach the head for longer than a supervisor tries to start it.
    """
    from ray._common.utils import reset_ray_address
    from ray._private.utils import read_ray_address

    if read_ray_address() == str(address):
        reset_ray_address()


def _last_line(said: IO[bytes]) -> str:
    said.seek(0)
    lines = said.read().decode(errors="replace").strip().splitlines()
    return f" Ray says: {lines[-1].strip()}" if lines else ""


def _head_options(address: FarmAddress) -> tuple[str, ...]:
    return ("--head", f"--port={address.port}", f"--node-ip-address={address.host}")


def _find_head(address: FarmAddress, environment: Mapping[str, str]) -> psutil.Process | None:
    """Return the head of this studio that runs there, if there is one; another studio's has another token."""
    for process in psutil.process_iter(["cmdline"]):
        if set(_head_options(address)) <= set(process.info["cmdline"] or ()):
            with contextlib.suppress(psutil.Error):
                if process.environ().get(TOKEN_PATH_VARIABLE) == environment.get(TOKEN_PATH_VARIABLE):
                    return process
    return None


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def _wait(stopping: Callable[[], bool]) -> None:
    if stopping():
        raise Stopped
    time.sleep(_POLL_SECONDS)


def start_node(
    address: FarmAddress, labels: Mapping[str, str], environment: Mapping[str, str], more: Sequence[str] = ()
) -> psutil.Popen:
    """Start the node of a machine, which ends when the head is gone."""
    written = ",".join(f"{key}={value}" for key, value in labels.items() if value)
    named = [f"--labels={written}"] if written else []
    # Ray would take the address of the way to the internet, which may be another one, or not be there.
    own = f"--node-ip-address={_own_address(address)}"
    return _start([f"--address={address}", own, *named, *more], environment)


def _own_address(head: FarmAddress) -> str:
    """Return the address of this machine that the head sees; nothing is sent."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((head.host, head.port))
            found: str = probe.getsockname()[0]
            return found
    except OSError as error:
        raise JobError(f"There is no way to {head} ({error.strerror}); check the network and the address.") from error


def answers(address: FarmAddress) -> bool:
    """Whether something listens there. Not by Ray's client, which ends the whole process if nothing does."""
    try:
        socket.create_connection((address.host, address.port), timeout=_CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def _dashboard_options() -> tuple[str, ...]:
    """Return Ray's options for its dashboard, which it has if `ray[default]` is installed."""
    try:
        import ray.dashboard.optional_deps  # noqa: F401  (Ray's own check; it does not start at all without them)
    except ImportError:
        return ("--include-dashboard=false",)
    # Whoever reaches it can run code with the token, so it stays on this machine.
    return ("--include-dashboard=true", "--dashboard-host=127.0.0.1")


def dashboard_address() -> str | None:
    """Return where the cluster's dashboard runs; None if there is none, or not yet."""
    from ray._private.ray_constants import DASHBOARD_ADDRESS, KV_NAMESPACE_DASHBOARD
    from ray.experimental.internal_kv import _internal_kv_get

    found = _internal_kv_get(DASHBOARD_ADDRESS, namespace=KV_NAMESPACE_DASHBOARD)
    return f"http://{found.decode()}" if found else None


def publish_facts(machine: Machine) -> None:
    """Tell the machines that join what the head has; the process is connected to the cluster."""
    from ray.experimental.internal_kv import _internal_kv_put

    _internal_kv_put(FACTS_KEY, json.dumps(machine.to_json()).encode(), overwrite=True, namespace=_NAMESPACE)


def offer_models(checkpoints: Path) -> Any:
    """Let machines copy the models in a folder of this one; returns an actor, which lives as long as it is referred to.

    The process is connected to the cluster.
    """
    import ray
    from ray.experimental.internal_kv import _internal_kv_put
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # A new name, since the actor of a process that was killed may still have the old one.
    name = f"models-{secrets.token_hex(4)}"
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    shelf = ray.remote(ModelShelf).options(name=name, num_cpus=0, scheduling_strategy=here)
    actor = shelf.remote(checkpoints.resolve())
    _internal_kv_put(SHELF_KEY, name.encode(), overwrite=True, namespace=_NAMESPACE)
    return actor


@contextlib.contextmanager
def model_shelf(address: FarmAddress) -> Iterator[Ask]:
    """Call the head's `ModelShelf`, from a node that has nothing to compute with; raises `JobError`."""
    head_facts(address)
    import ray
    from ray.exceptions import RayError
    from ray.experimental.internal_kv import _internal_kv_get

    node = start_node(address, {}, {}, ("--num-cpus=0", "--num-gpus=0"))
    try:
        _connect(address)
        name = _internal_kv_get(SHELF_KEY, namespace=_NAMESPACE)
        if name is None:
            raise JobError(f"The head {address} offers no models; update Ovi Studio there.")
        shelf = ray.get_actor(name.decode(), namespace=NAMESPACE)

        def ask(method: str, *arguments: Any) -> Any:
            try:
                return ray.get(getattr(shelf, method).remote(*arguments), timeout=_HASHING_SECONDS)
            except (RayError, TimeoutError) as error:
                raise JobError(f"The head {address} does not send its models any more; {RESUMES}.") from error

        yield ask
    finally:
        ray.shutdown()  # first, since Ray ends a process whose node is gone
        end_node(node)


def _connect(address: FarmAddress) -> None:
    """Connect this process to the cluster by way of this machine's node, once that is there."""
    import ray

    deadline = time.monotonic() + _STARTS_SECONDS
    while True:
        try:
            ray.init(address=str(address), log_to_driver=False, logging_level="error", namespace=NAMESPACE)
            return
        except (ConnectionError, RuntimeError) as error:
            if time.monotonic() > deadline:
                raise JobError(f"No node of the head {address} starts here ({error}); see Ray's log.") from error
            time.sleep(_POLL_SECONDS)


def end_node(node: psutil.Process) -> None:
    """End the node of a machine, or the head, in order."""
    with contextlib.suppress(psutil.NoSuchProcess):
        node.terminate()
        try:
            node.wait(_LEAVE_SECONDS)
        except psutil.TimeoutExpired:
            node.kill()
            node.wait()


def head_facts(address: FarmAddress) -> Machine:
    """Return what the head has; raises `JobError` if it refuses the token or is none of ours, or `HeadNotReady`."""
    if not answers(address):
        raise HeadNotReady(
            f"No head answers on {address}; check that it runs with --farm, and that no firewall is between."
        )
    # Ray reads its variables when it is imported.
    import ray._raylet
    from ray.exceptions import AuthenticationError

    try:
        stored = ray._raylet.GcsClient(address=str(address)).internal_kv_get(FACTS_KEY, _NAMESPACE, timeout=10)
    except AuthenticationError as error:
        raise JobError(
            f"The head on {address} refuses the token; copy the join line that it printed, or set {TOKEN_VARIABLE}."
        ) from error
    except Exception as error:  # Ray has no common type for what a network can do
        raise HeadNotReady(f"What answers on {address} is no head of a farm ({error}); check the address.") from error
    if stored is None:
        raise HeadNotReady(
            f"There is a Ray cluster on {address}, but no Ovi Studio in it yet; start the page with --farm."
        )
    return Machine.from_json(json.loads(stored))


def _start(
    arguments: Sequence[str], environment: Mapping[str, str], said: IO[bytes] | int = subprocess.DEVNULL
) -> psutil.Popen:
    # Not its script, which names the Python of the folder in which it was installed.
    program = [sys.executable, "-m", "ray.scripts.scripts", "start"]
    store = f"--object-store-memory={OBJECT_STORE_BYTES}"
    # What actors print stays on their machine.
    quiet = ("--include-log-monitor=false", "--disable-usage-stats", "--block")
    return psutil.Popen(
        [*program, *arguments, store, *quiet],
        stdin=subprocess.DEVNULL,
        stdout=said,
        stderr=said,
        env={**child_environment(), **environment},  # actors find our package there
    )
