"""What SIGINT and SIGTERM do to a process of this program."""

import signal


def end_in_order_on_signals() -> None:
    """Make SIGINT and SIGTERM raise `KeyboardInterrupt` in the main thread, from which this must be called.

    Python does so for SIGINT alone, and not even for that in a process that a shell started in the background: such a
    process inherits that SIGINT is ignored, and so would everything it starts.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
