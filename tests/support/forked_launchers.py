"""Lets forked programs become launchers that fork their ranks; the server of pipelines imports it.

What would be executed anew, and import torch once more, goes on in the same process, which has it already.
"""

import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn

import forking_launcher
from forked import run_and_leave

from ovi_studio.distributed.ranks import join_ranks

_execute = os.execv


def become(path: str, command: Sequence[str]) -> NoReturn:
    """Do what `os.execv` does of the command of a launcher, and execute any other one.

    A process with threads cannot fork ranks, but what it executes can.
    """
    if list(command[1:3]) != ["-m", forking_launcher.LAUNCHER] or threading.active_count() > 1:
        _execute(path, command)
    join_ranks.cache_clear()  # this process was alone; its ranks are not
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, default)
    forking_launcher.prepare(command[3:])
    sys.argv[1:] = command[3:]
    run_and_leave(forking_launcher.LAUNCHER)


os.execv = become
