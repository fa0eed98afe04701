"""Handling of SIGINT and SIGTERM."""

import signal


def exit_cleanly_on_signals() -> None:
    """Make SIGINT and SIGTERM raise `KeyboardInterrupt` in the main thread, from which this must be called.

    By default Python does so only for SIGINT, and not in a process that a shell started in the background: such a
    process ignores SIGINT, and so do its children.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
