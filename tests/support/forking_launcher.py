"""Lets a launcher start its ranks without the seconds in which each imports torch.

The folder `forked_ranks` uses it for launchers that are started cold, and `forked_launchers` for those that are forked.

A rank is the child of a process that the launcher has forked for it, which has nothing else to do, and ends when the
launcher does.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from forked import Forked, run_and_leave
from processes import RANK_NAME

from ovi_studio.core.imports import without_collecting

LAUNCHER = "ovi_studio.distributed.launcher"
COMMAND = ("ovi_studio.runtime.pipeline", "ovi_studio.distributed.sharding")
ENGINE = ("fake_models", "ovi_studio.engine.loop", "ovi_studio.models.device")
"""What ranks import, of a command and of an engine or a farm."""
_SET_DEATH_SIGNAL, _SET_NAME = 1, 15
"""Of Linux's `prctl`."""


def prepare(launcher: Sequence[str]) -> None:
    """Import what the ranks of a launcher import, and let it fork them; no thread runs yet.

    Args:
        launcher: its command line.
    """

    def after(option: str) -> str:
        return launcher[launcher.index(option) + 1]

    count, module = int(after("--num_processes")), after("--module")
    with without_collecting():
        from torch.distributed.elastic.multiprocessing.subprocess_handler import SubprocessHandler

        for name in COMMAND if module == "ovi_studio" else ENGINE:
            importlib.import_module(name)
    gc.freeze()  # what ranks share is not written to
    parents = [_fork_parent() for _ in range(count)]

    def start(handler: SubprocessHandler, command: Sequence[str], environment: Mapping[str, str]) -> Forked:
        parent = parents.pop()
        parent.sendall(json.dumps([list(command), dict(environment)]).encode() + b"\n")
        return Forked(parent)

    SubprocessHandler._popen = start


def _fork_parent() -> socket.socket:
    """Fork a process that waits for the command of a rank; returns the connection to it."""
    here, there = socket.socketpair()
    if os.fork() == 0:
        here.close()
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
        _be_parent(there)
    there.close()
    return here


def _be_parent(connection: socket.socket) -> NoReturn:
    with connection.makefile() as orders:
        command, environment = json.loads(orders.readline())
    if (rank := os.fork()) == 0:
        connection.close()
        _be_rank(command, environment)
    with contextlib.suppress(OSError):  # nobody wants to know
        connection.sendall(f"{rank}\n".encode())
        status = os.waitpid(rank, 0)[1]
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _be_rank(command: Sequence[str], environment: dict[str, str]) -> NoReturn:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    ctypes.CDLL(None).prctl(_SET_NAME, f"{RANK_NAME}{environment['LOCAL_RANK']}".encode())
    module = command.index("-m") + 1
    sys.argv[:] = command[module:]
    run_and_leave(command[module])
