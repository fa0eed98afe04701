"""`join`: makes this machine one of a farm, and stays in front until it is told to leave.

Ray's node runs in a process of its own. If the head is gone, the node ends, and this waits for the head to come back.
At Ctrl+C the machine leaves in order: its job goes back to the queue.
"""

import getpass
import math
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from ovi_studio.checkpoints.layout import CHECKPOINT_VARIABLE
from ovi_studio.core.errors import JobError
from ovi_studio.distributed.launch import require_gpus
from ovi_studio.farm.command import TOKEN_VARIABLE, FarmAddress, ray_environment, require_ray
from ovi_studio.farm.machine import (
    Machine,
    Versions,
    describe,
    differences,
    host_name,
    require_name,
    version_differences,
)
from ovi_studio.farm.models import copy_command

HEAD = "head"
"""For `models_from`: the farm's own head."""
RETRY_SECONDS = 5.0
HEAD_SECONDS = 120.0
"""How long a machine that has not joined yet waits for the head."""


def join(
    address: str,
    checkpoints: Path,
    *,
    name: str | None = None,
    gpus: int = 1,
    download: str | None = None,
    models_from: str | None = None,
) -> int:
    """Join the farm whose head is at an address; returns when the machine has left.

    Args:
        name: what the machine is called; None: its host name.
        gpus: how many GPUs of the machine share a clip.
        download: a variant to fetch first.
        models_from: the head from which to copy that variant, or all of them; None: the hub.

    Raises `JobError` if the machine does not fit, with a sentence for each difference, or if it cannot be called so.
    """
    require_ray()
    require_gpus(gpus)
    name = host_name() if name is None else require_name(name)
    head = FarmAddress.parse(address)
    token = os.environ.get(TOKEN_VARIABLE) or _ask_for_token()
    os.environ.update({**ray_environment(None), TOKEN_VARIABLE: token})
    _require_same(_wait_for(head, HEAD_SECONDS))  # before gigabytes are fetched
    if models_from or download:
        _fetch_models(download, checkpoints, head if models_from == HEAD else models_from)
    _say(f"Looking at this machine; the first time, its checkpoints are read, which takes minutes ({checkpoints}).")
    here = describe(name, checkpoints, ranks=gpus)
    if found := differences(_wait_for(head, HEAD_SECONDS), here):
        raise JobError(" ".join(found))
    _stay(head, here, {CHECKPOINT_VARIABLE: str(checkpoints.resolve())})
    return 0


def _require_same(facts: Machine) -> None:
    if found := version_differences(facts.versions, Versions.here()):
        raise JobError(" ".join(found))


def _wait_for(head: FarmAddress, seconds: float) -> Machine:
    """Return what a head has that may be starting, as when the power is back everywhere; raises `JobError`.

    Args:
        seconds: how long to wait; not for ever for an address that was never right.
    """
    # Only now, since Ray reads its variables when it is imported.
    from ovi_studio.farm.cluster import HeadNotReady, head_facts

    deadline = time.monotonic() + seconds
    while True:
        try:
            return head_facts(head)
        except HeadNotReady as error:
            if time.monotonic() >= deadline:
                raise
            _say(f"{error} Waiting for it; Ctrl+C leaves.")
        time.sleep(RETRY_SECONDS)


def _ask_for_token() -> str:
    token = getpass.getpass("Token of the farm: ").strip() if sys.stdin.isatty() else ""
    if not token:
        raise JobError(f"The token of the farm is missing; copy the head's join line, or set {TOKEN_VARIABLE}.")
    return token


def _stay(head: FarmAddress, here: Machine, environment: Mapping[str, str]) -> None:
    """Keep a node running, whatever happens to the head, as long as it would take this machine."""
    from ovi_studio.farm.cluster import end_node, start_node

    while True:
        _require_same(_wait_for(head, math.inf))
        node = start_node(head, here.labels(), environment)
        try:
            _say(f"{here.name} ({here.card}) makes {', '.join(sorted(here.variants))} for {head}; Ctrl+C leaves.")
            node.wait()
        except BaseException:
            _say("Leaving; a clip that is being made goes back to the queue.")
            end_node(node)
            raise
        _say(f"Ray's node has ended; it is started again when the head {head} answers.")
        time.sleep(RETRY_SECONDS)


def _fetch_models(variant: str | None, checkpoints: Path, head: FarmAddress | str | None) -> None:
    """Fetch a variant from the hub, or this one or all from a head."""
    chosen = [variant] if variant else []
    if head is None:
        command = [sys.executable, "-m", "ovi_studio", "download", *chosen, "--ckpt-dir", str(checkpoints)]
    else:
        command = copy_command(str(head), checkpoints, chosen)
    if subprocess.run(command, check=False).returncode:
        raise JobError("The models could not be fetched; see above, then join again: it resumes.")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
