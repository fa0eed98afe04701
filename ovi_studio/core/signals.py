"""Which signals end a process of this program, and how a page or a command answers them."""

import signal


def ending_signals() -> list[signal.Signals]:
    """SIGINT, SIGTERM, and SIGHUP, which says that the terminal was closed; under `nohup` that one is ignored."""
    hangup = getattr(signal, "SIGHUP", None)
    heard = hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([hangup] if heard else [])]


def exit_cleanly_on_signals() -> None:
    """Make them raise `KeyboardInterrupt` in the main thread, from which this must be called.

    By default Python does so only for SIGINT, and not in a process that a shell started in the background: such a
    process ignores SIGINT, and so do its children.
    """
    for number in ending_signals():
        signal.signal(number, signal.default_int_handler)
