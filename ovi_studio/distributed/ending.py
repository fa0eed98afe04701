"""How the process of a command ends. Imports no torch.

A rank that fails exits at once. The interpreter's own exit waits for threads and for collectives that the others will
never join, perhaps for ever; and the others detect a failure by the missing process (`watchdog`).
"""

import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from ovi_studio.core.signals import exit_cleanly_on_signals
from ovi_studio.distributed.launcher import report_path
from ovi_studio.distributed.ranks import launched

_FAILED = 1


def end_with(main: Callable[[], int]) -> NoReturn:
    """Run a command and end this process with its exit status; SIGINT, SIGTERM and SIGHUP interrupt it.

    In a rank the signal handlers are not changed: the launcher gets the signals too and ends its ranks.
    """
    if not launched():
        exit_cleanly_on_signals()
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
    except BaseException as error:
        report = report_path()
        if report is None:
            sys.excepthook(*sys.exc_info())
        else:
            summary = " ".join("".join(traceback.format_exception_only(error)).split())
            report.write_text(f"{summary}\n\n{traceback.format_exc()}", encoding="utf-8")
        return _FAILED


def _leave(status: int) -> NoReturn:
    """Exit at once; wait only until printed and logged text is flushed."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # the reader has closed the stream
            stream.flush()
    os._exit(status)
