"""Ray's processes: the head, the node of a machine, and whether a head answers. Imports ray only where it is used."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ovi_studio.core.errors import JobError
from ovi_studio.farm.command import TOKEN_VARIABLE, FarmAddress
from ovi_studio.farm.machine import FACTS_KEY, Machine

OBJECT_STORE_BYTES = 200 * 2**20
"""Pieces of files pass through the store; nothing is kept there."""
_NAMESPACE = b"ovi_studio"
_STARTS_SECONDS = 60.0
_CONNECT_SECONDS = 3.0


def start_head(address: FarmAddress, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a head that makes no clips itself, and wait until it answers; raises `JobError`."""
    # Its resources are 0: the head's own GPUs are used by the page's engines.
    own = ("--head", f"--port={address.port}", "--num-cpus=0", "--num-gpus=0", "--include-dashboard=false")
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
    return _start([f"--address={address}", f"--labels={written}", *more], environment)


def answers(address: FarmAddress) -> bool:
    """Whether something listens there. Not by Ray's client, which ends the whole process if nothing does."""
    try:
        socket.create_connection((address.host, address.port), timeout=_CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def publish_facts(machine: Machine) -> None:
    """Tell the machines that join what the head has; the process is connected to the cluster."""
    from ray.experimental.internal_kv import _internal_kv_put

    _internal_kv_put(FACTS_KEY, json.dumps(machine.to_json()).encode(), overwrite=True, namespace=_NAMESPACE)


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
    program = [str(Path(sys.executable).with_name("ray")), "start"]
    store = f"--object-store-memory={OBJECT_STORE_BYTES}"
    return subprocess.Popen(
        [*program, *arguments, store, "--disable-usage-stats", "--block"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )
