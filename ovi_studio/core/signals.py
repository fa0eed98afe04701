"""The signals that end a process of this program, and their handling."""

import signal


def ending_signals() -> list[signal.Signals]:
    """SIGINT, SIGTERM, and SIGHUP (the terminal was closed), unless it is ignored, as under `nohup`."""
    signals = [signal.SIGINT, signal.SIGTERM]
    hangup: signal.Signals | None = getattr(signal, "SIGHUP", None)  # missing on Windows
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        signals.append(hangup)
    return signals


def exit_cleanly_on_signals() -> None:
    """Make these signals raise `KeyboardInterrupt` in the main thread, from which this must be called.

    By default Python does so only for SIGINT, and not in a process that a shell started in the background: such a
    process ignores SIGINT, and so do its children.
    """
    for number in ending_signals():
        signal.signal(number, signal.default_int_handler)
