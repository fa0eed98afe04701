"""Output that never ends a program: a reader that is gone, or a console that cannot show a character."""

import os
import sys
from typing import Any, TextIO


class _Forgiving:
    """A text stream that ignores what nobody can read any more; everything else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or discard the text if the reader is gone."""
        try:
            return self._stream.write(text)
        except (BrokenPipeError, ValueError):  # a ValueError says that the stream is closed
            self._discard()
            return len(text)

    def flush(self) -> None:
        """Flush, or discard what is left."""
        try:
            self._stream.flush()
        except (BrokenPipeError, ValueError):
            self._discard()

    def _discard(self) -> None:
        """Send the rest to nowhere, also what the interpreter flushes when it ends."""
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        except (OSError, ValueError):
            pass

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def use_forgiving_output() -> None:
    """Replace stdout and stderr: `generate ... | head` goes on, and characters that cannot be shown are escaped."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or isinstance(stream, _Forgiving):
            continue  # None: a program without a console on Windows
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, _Forgiving(stream))
