"""How the process of a command ends. Imports no torch.

A rank that fails is gone at once. The interpreter's own exit waits for threads and for collectives that the others will
never join, perhaps for ever; and the others notice a failure by a process that is gone (`watchdog`).
"""

import contextlib
import logging
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from ovi_studio.core.signals import end_in_order_on_signals
from ovi_studio.distributed.ranks import launched

_FAILED = 1


def end_with(main: Callable[[], int]) -> NoReturn:
    """Run a command and end this process with its exit status; SIGINT, SIGTERM and SIGHUP interrupt it.

    In a rank they stay as they are: the launcher gets them too and ends its ranks.
    """
    if not launched():
        end_in_order_on_signals()
        sys.exit(main())
    status = _status(main)
    if status != 0:
        _leave(status)
    sys.exit(status)


def _status(main: Callable[[], int]) -> int:
    try:
        return main()
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
            return _FAILED
        return error.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return _FAILED


def _leave(status: int) -> NoReturn:
    """Without waiting for anything but what was printed and logged."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # nobody reads any more
            stream.flush()
    os._exit(status)
