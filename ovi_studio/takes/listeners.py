"""Listeners by name, and where a downloaded Whisper is."""

from pathlib import Path

from ovi_studio.core.errors import JobError
from ovi_studio.takes import sphinx, whisper
from ovi_studio.takes.listener import Listener

WHISPER = "whisper"
WHISPER_FOLDER = "whisper-small"
"""In the checkpoint directory."""


def find_listener(name: str, checkpoints: Path) -> Listener:
    """`pocketsphinx`, `whisper` (downloaded), or a Whisper model's folder or name on the hub; raises `JobError`."""
    if name == sphinx.NAME:
        return sphinx.Sphinx()
    if name != WHISPER:
        return whisper.Whisper(name)
    folder = checkpoints / WHISPER_FOLDER
    if not (folder / "config.json").is_file():
        raise JobError(f"Whisper is not in {folder}; run `python -m ovi_studio download whisper`.")
    return whisper.Whisper(str(folder))
