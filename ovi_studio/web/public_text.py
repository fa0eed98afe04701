"""Sentences for people at a browser or an API client, without the folders of this machine.

A `JobError` may name a path, which helps in a terminal. A client learns the file's name and nothing of where it lies;
the folders that the person at the page needs are in the System tab.
"""

import re
from dataclasses import dataclass, replace

from ovi_studio.engine.supervisor import Supervision

# A component may contain spaces, but none of the characters that end a path in a sentence.
_FOLDERS = re.compile(r"""(?<![\w.:/\\~<&])(?:[A-Za-z]:[\\/]|~?/|\\\\)(?=[^\s/\\])(?:[^/\\\n"'“”‘’`<>|;:,()]+[/\\])*""")
_COMMANDS = re.compile(r"(`[^`]*`)")


@dataclass
class _Readers:
    """Who reads the page of this process."""

    anyone: bool = False


_readers = _Readers()


def written_for_anyone(anyone: bool) -> None:
    """Say whether anyone may open the page of this process; then no command names a folder, either."""
    _readers.anyone = anyone


def without_folders(text: str) -> str:
    """The text in which every absolute path is only its last part."""
    return _FOLDERS.sub("", text)


def for_page(text: str) -> str:
    """The same for the page, whose owner copies the commands in backticks as they are."""
    if _readers.anyone:
        return without_folders(text)
    return "".join(part if part.startswith("`") else without_folders(part) for part in _COMMANDS.split(text))


def public_status(status: Supervision) -> Supervision:
    """The engine's status for a page that anyone may open, without the lines of its log."""
    return replace(status, reason=without_folders(status.reason), last_words=())
