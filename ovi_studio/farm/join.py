"""`join`: makes this machine one of a farm, and stays in front until it is told to leave.

Ray's node runs in a process of its own. If the head is gone, the node ends, and this waits for the head to come back.
At Ctrl+C the machine leaves in order: its job goes back to the queue.
"""

import getpass
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import ovi_studio
from ovi_studio.checkpoints.layout import CHECKPOINT_VARIABLE
from ovi_studio.core.errors import JobError
from ovi_studio.farm.command import TOKEN_VARIABLE, FarmAddress, ray_environment, require_ray
from ovi_studio.farm.machine import Machine, describe, differences, host_name

RETRY_SECONDS = 5.0
_LEAVE_SECONDS = 20.0


def join(address: str, checkpoints: Path, *, name: str | None = None, download: str | None = None) -> int:
    """Join the farm whose head is at an address; returns when the machine has left.

    Args:
        name: what the machine is called; None: its host name.
        download: a variant to fetch first.

    Raises `JobError` if the machine does not fit, with a sentence for each difference.
    """
    require_ray()
    head = FarmAddress.parse(address)
    os.environ.update(ray_environment(None))
    if not os.environ.get(TOKEN_VARIABLE):
        os.environ[TOKEN_VARIABLE] = getpass.getpass("Token of the farm: ").strip()
    # Only now, since Ray reads these variables when it is imported.
    from ovi_studio.farm.cluster import head_facts

    facts = head_facts(head)
    if download:
        _download(download, checkpoints)
    _say(f"Looking at this machine; the first time, its checkpoints are read, which takes minutes ({checkpoints}).")
    here = describe(name or host_name(), checkpoints)
    if found := differences(facts, here):
        raise JobError(" ".join(found))
    _stay(head, here, _node_environment(checkpoints))
    return 0


def _stay(head: FarmAddress, here: Machine, environment: Mapping[str, str]) -> None:
    """Keep a node running, whatever happens to the head."""
    from ovi_studio.farm.cluster import answers, start_node

    node = None
    try:
        while True:
            if node is None and answers(head):
                node = start_node(head, here.labels(), environment)
                _say(f"{here.name} ({here.card}) makes {', '.join(sorted(here.variants))} for {head}; Ctrl+C leaves.")
            elif node is None:
                _say(f"The head {head} does not answer; waiting for it. Ctrl+C leaves.")
                time.sleep(RETRY_SECONDS)
            elif node.poll() is not None:
                _say(f"Ray's node has ended; it is started again when the head {head} answers.")
                node = None
                time.sleep(RETRY_SECONDS)
            else:
                time.sleep(1)
    finally:
        if node is not None:
            _say("Leaving; a clip that is being made goes back to the queue.")
            _end(node)


def _end(node: "subprocess.Popen[bytes]") -> None:
    node.terminate()
    try:
        node.wait(_LEAVE_SECONDS)
    except subprocess.TimeoutExpired:
        node.kill()
        node.wait()


def _node_environment(checkpoints: Path) -> dict[str, str]:
    """Return what the node's actors find in their environment: our package, and the folder of the checkpoints."""
    home = str(Path(ovi_studio.__file__).parents[1])
    search = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"PYTHONPATH": search, CHECKPOINT_VARIABLE: str(checkpoints.resolve())}


def _download(variant: str, checkpoints: Path) -> None:
    command = [sys.executable, "-m", "ovi_studio", "download", variant, "--ckpt-dir", str(checkpoints)]
    if subprocess.run(command, check=False).returncode:
        raise JobError(f"The variant {variant} could not be fetched; see above, then join again.")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
