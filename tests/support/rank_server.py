"""Starts ranks without the seconds in which each imports torch: a process that has done so forks them.

Reads orders from standard input, one JSON object a line, and answers each with the exit status of the first rank that
failed, or 0. The ranks find each other by the variables that torch's launcher sets; one that fails ends the others.
"""

import json
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


def main() -> None:
    for line in sys.stdin:
        print(run(**json.loads(line)), flush=True)


def run(count: int, module: str, arguments: Sequence[str], output: str) -> int:
    """Run `python -m module arguments` on several ranks, which write what they say to the file `output`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    running = set()
    for rank in range(count):
        if (child := os.fork()) == 0:
            become(rank, count, port, module, arguments, output)
        running.add(child)
    status = 0
    while running:
        child, ended = os.wait()
        running.remove(child)
        if not status and (status := os.waitstatus_to_exitcode(ended)):
            for other in running:
                os.kill(other, signal.SIGTERM)
    return status


def become(rank: int, count: int, port: int, module: str, arguments: Sequence[str], output: str) -> NoReturn:
    said = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(said, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    own, all_ranks = str(rank), str(count)
    os.environ |= {"RANK": own, "LOCAL_RANK": own, "WORLD_SIZE": all_ranks, "LOCAL_WORLD_SIZE": all_ranks}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "none"}
    sys.argv[1:] = arguments
    run_and_leave(module)


if __name__ == "__main__":
    main()
