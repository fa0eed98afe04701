"""Starts programs without the seconds in which each imports its libraries: this process has done so, and forks them.

Every connection to its socket is a program: an order comes in with the program's three streams, and its process id and
in the end its exit status go out. The program is a process of its own and runs as under `python FILE` or `python -m
MODULE`: with these arguments, in this environment and folder, ignoring these signals, in a session of its own if it is
to lead its process group; and it ends as the interpreter does. The server ends when its standard input does.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import tempfile
import threading
import warnings
from typing import Any

from ovi_studio.core.imports import without_collecting

ANSWERS = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
"""To signals that a process may have been started to ignore."""


def main() -> None:
    address, *modules = sys.argv[1:]
    with without_collecting():
        for module in modules:
            importlib.import_module(module)
    gc.freeze()  # what programs share is not written to
    assert threading.active_count() == 1, "a thread that a library has started would be missing in what is forked"
    # Whoever looks after a program is not waited for.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        print("ready", flush=True)
        while sys.stdin not in select.select([server, sys.stdin], [], [])[0]:
            connection, _ = server.accept()
            if os.fork() == 0:
                break
            connection.close()
        else:
            return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _run(connection)


def _run(connection: socket.socket) -> None:
    """Fork the program, which returns, and wait for it."""
    text, streams, _, _ = socket.recv_fds(connection, 2**20, 3)
    if (program := os.fork()) == 0:
        connection.close()
        _become(json.loads(text), streams)
        return
    for stream in (*streams, 0, 1):
        os.close(stream)
    with contextlib.suppress(OSError):  # nobody wants to know
        connection.sendall(f"{program}\n".encode())
        status = os.waitpid(program, 0)[1]
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _become(order: dict[str, Any], streams: list[int]) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    # New ones, as the interpreter makes them: these know whether they are files, which has just changed.
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    if order["leads"]:
        os.setsid()
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    tempfile.tempdir = None  # which this environment may name
    if os.environ.get("PYTHONWARNINGS") == "ignore":
        warnings.simplefilter("ignore")
    if "OVI_TEST_CARDS" in os.environ:  # as `cuda/sitecustomize.py` does where an interpreter starts
        importlib.import_module("fake_cuda").install_from_environment()
    for number, default in ANSWERS.items():
        signal.signal(number, signal.SIG_IGN if number in order["ignored"] else default)
    first, *arguments = order["arguments"]
    if first == "-m":
        sys.argv[1:] = arguments[1:]
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv[:] = [first, *arguments]
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    main()
