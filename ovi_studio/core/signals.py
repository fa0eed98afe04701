"""Which signals end a process of this program, and how a page or a command answers them."""

import signal


def ending_signals() -> list[signal.Signals]:
    """SIGINT, SIGTERM, and SIGHUP, which says that the terminal was closed; under `nohup` that one is ignored."""
    hangup: signal.Signals | None = getattr(signal, "SIGHUP", None)
    if hangup is None or signal.getsignal(hangup) is signal.SIG_IGN:
        return [signal.SIGINT, signal.SIGTERM]
    return [signal.SIGINT, signal.SIGTERM, hangup]


def exit_cleanly_on_signals() -> None:
    """Make them raise `KeyboardInterrupt` in the main thread, from which this must be called.

    By default Python does so only for SIGINT, and not in a process that a shell started in the background: such a
    process ignores SIGINT, and so do its children.
    """
    for number in ending_signals():
        signal.signal(number, signal.default_int_handler)
