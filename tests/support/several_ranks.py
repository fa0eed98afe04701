"""Runs `python -m MODULE ARGUMENTS` on several ranks, which it forks: `COUNT MODULE ARGUMENTS`.

The ranks find each other by the variables that torch's launcher sets; one that fails ends the others, and its exit
status is that of this program.
"""

import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import NoReturn

from forked import run_and_leave

from ovi_studio.core.imports import without_collecting

with without_collecting():
    import ovi_studio.distributed.sharding
    import ovi_studio.runtime.pipeline  # noqa: F401  # what all ranks import


def run(count: int, module: str, arguments: Sequence[str]) -> int:
    """Run a module on several ranks; returns the exit status of the first one that failed, or 0."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    running = set()
    for rank in range(count):
        if (child := os.fork()) == 0:
            become(rank, count, port, module, arguments)
        running.add(child)
    status = 0
    while running:
        child, ended = os.wait()
        running.remove(child)
        if not status and (status := os.waitstatus_to_exitcode(ended)):
            for other in running:
                os.kill(other, signal.SIGTERM)
    return status


def become(rank: int, count: int, port: int, module: str, arguments: Sequence[str]) -> NoReturn:
    own, all_ranks = str(rank), str(count)
    os.environ |= {"RANK": own, "LOCAL_RANK": own, "WORLD_SIZE": all_ranks, "LOCAL_WORLD_SIZE": all_ranks}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "none"}
    sys.argv[1:] = arguments
    run_and_leave(module)


if __name__ == "__main__":
    count, module, *arguments = sys.argv[1:]
    sys.exit(run(int(count), module, arguments))
