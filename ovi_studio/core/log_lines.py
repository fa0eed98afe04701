"""Logs in which one record is one line, whatever it quotes: a prompt, a path or a header cannot forge another one.

`keep_lines_whole` holds for every logger of the process, those of libraries included. A traceback follows its record
on indented lines, so that none of them looks like a record.
"""

import logging
import logging.handlers
import re
import sys
from pathlib import Path
from typing import Any

LOG_BYTES = 2 * 2**20
"""Size at which a log file is set aside for a new one."""
_FORMAT = "%(asctime)s %(process)d %(levelname)s %(message)s"
# Control characters, and those that break or turn around a line.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def one_line(text: str) -> str:
    """The text with control characters as escapes, such as `\\n` and `\\x1b`."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class _LineRecord(logging.LogRecord):
    """A record whose message is one line."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        if self.exc_info and self.exc_info[0] is not None:
            # A formatter uses this text instead of its own.
            lines = logging.Formatter().formatException(self.exc_info).splitlines()
            self.exc_text = "\n".join(f"  {one_line(line)}" for line in lines)

    def getMessage(self) -> str:
        return one_line(super().getMessage())


def keep_lines_whole() -> None:
    """Let every record that this process logs from now on be one line."""
    logging.setLogRecordFactory(_LineRecord)


def start_log(path: Path, *, to_terminal: bool) -> None:
    """Log to a file, which is set aside once it is large, and also to stderr if `to_terminal`."""
    keep_lines_whole()
    file = logging.handlers.RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8")
    handlers: list[logging.Handler] = [file, *([logging.StreamHandler(sys.stderr)] if to_terminal else [])]
    for handler in handlers:
        handler.setFormatter(logging.Formatter(_FORMAT))
        logging.getLogger().addHandler(handler)
    logging.getLogger("ovi_studio").setLevel(logging.INFO)
