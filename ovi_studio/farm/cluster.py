"""Ray's processes: the head, the node of a machine, and whether a head answers. Imports ray only where it is used."""

import contextlib
import json
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ovi_studio.checkpoints.disk import RESUMES
from ovi_studio.core.child_processes import child_environment
from ovi_studio.core.errors import JobError
from ovi_studio.farm.command import TOKEN_VARIABLE, FarmAddress
from ovi_studio.farm.machine import FACTS_KEY, Machine
from ovi_studio.farm.models import Ask, ModelShelf

OBJECT_STORE_BYTES = 200 * 2**20
"""Pieces of files pass through the store; nothing is kept there."""
NAMESPACE = "ovi-studio"
"""Of our actors."""
SHELF_KEY = b"ovi_studio_models"
_NAMESPACE = b"ovi_studio"
_LEAVE_SECONDS = 20.0
_RETRY_SECONDS = 0.5
_HASHING_SECONDS = 1800.0
_STARTS_SECONDS = 60.0
_CONNECT_SECONDS = 3.0


def start_head(address: FarmAddress, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a head that makes no clips itself, and wait until it answers; raises `JobError`."""
    # Its resources are 0: the head's own GPUs are used by the page's engines.
    own = ("--head", f"--port={address.port}", "--num-cpus=0", "--num-gpus=0", *_dashboard_options())
    child = _start([*own, f"--node-ip-address={address.host}"], environment)
    deadline = time.monotonic() + _STARTS_SECONDS
    while not answers(address):
        if child.poll() is not None or time.monotonic() > deadline:
            child.kill()
            raise JobError(
                f"Ray's head does not start on {address}; check that this is an address of this machine and that the "
                f"port is free, or choose others with --farm ADDRESS:PORT."
            )
        time.sleep(0.2)
    return child


def start_node(
    address: FarmAddress, labels: Mapping[str, str], environment: Mapping[str, str], more: Sequence[str] = ()
) -> subprocess.Popen[bytes]:
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
        ray.shutdown()
    finally:
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
            time.sleep(_RETRY_SECONDS)


def end_node(node: subprocess.Popen[bytes]) -> None:
    """End the node of a machine in order."""
    node.terminate()
    try:
        node.wait(_LEAVE_SECONDS)
    except subprocess.TimeoutExpired:
        node.kill()
        node.wait()


def head_facts(address: FarmAddress) -> Machine:
    """Return what the head has; raises `JobError` if it does not answer, refuses the token, or is none of ours."""
    if not answers(address):
        raise JobError(
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
        raise JobError(f"What answers on {address} is no head of a farm ({error}); check the address.") from error
    if stored is None:
        raise JobError(f"There is a Ray cluster on {address}, but no Ovi Studio in it yet; start the page with --farm.")
    return Machine.from_json(json.loads(stored))


def _start(arguments: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    # Not its script, which names the Python of the folder in which it was installed.
    program = [sys.executable, "-m", "ray.scripts.scripts", "start"]
    store = f"--object-store-memory={OBJECT_STORE_BYTES}"
    return subprocess.Popen(
        [*program, *arguments, store, "--disable-usage-stats", "--block"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**child_environment(), **environment},  # actors find our package there
    )
