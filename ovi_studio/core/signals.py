"""Which signals ask a process of this program to end, and how a page or a command answers them."""

import signal


def ending_signals() -> list[signal.Signals]:
    """SIGINT, SIGTERM, and SIGHUP, which says that the terminal is closed; under `nohup` that is ignored."""
    hangup = getattr(signal, "SIGHUP", None)
    heard = hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([hangup] if heard else [])]


def end_in_order_on_signals() -> None:
    """Make them raise `KeyboardInterrupt` in the main thread, from which this must be called.

    Python does so for SIGINT alone, and not even for that in a process that a shell started in the background: such a
    process inherits that SIGINT is ignored, and so would everything it starts.
    """
    for number in ending_signals():
        signal.signal(number, signal.default_int_handler)
