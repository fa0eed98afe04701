"""Listeners by name, and where a downloaded Whisper is."""

import importlib.util
from pathlib import Path

from ovi_studio.core.errors import JobError
from ovi_studio.core.extras import import_extra
from ovi_studio.takes import sphinx, whisper
from ovi_studio.takes.listener import Listener

WHISPER = "whisper"
LISTENERS = (WHISPER, sphinx.NAME)
"""Those that have a name, the best first; a model's folder or its name on the hub is one, too."""
WHISPER_FOLDER = "whisper-small"
"""In the checkpoint directory."""


def find_listener(name: str, checkpoints: Path) -> Listener:
    """`pocketsphinx`, `whisper` (downloaded), or a Whisper model's folder or name on the hub; raises `JobError`."""
    if name == sphinx.NAME:
        return sphinx.Sphinx()
    if name != WHISPER:
        return whisper.Whisper(name)
    if not _has_whisper(checkpoints):
        folder = checkpoints / WHISPER_FOLDER
        raise JobError(f"Whisper is not in {folder}; run `python -m ovi_studio download whisper`.")
    return whisper.Whisper(str(checkpoints / WHISPER_FOLDER))


def best_listener(checkpoints: Path) -> str | None:
    """The name of the best listener that is here, without loading it; None if there is none."""
    if _has_whisper(checkpoints):
        return WHISPER
    return sphinx.NAME if importlib.util.find_spec(sphinx.PACKAGE) else None


def check_listener(name: str, checkpoints: Path) -> None:
    """Raise `JobError` unless something can listen: the named listener, as far as is known without loading it, or any.

    A name on the hub is known only when the model is downloaded.
    """
    if name == WHISPER and not _has_whisper(checkpoints):
        find_listener(name, checkpoints)
    if name == sphinx.NAME:
        import_extra(sphinx.PACKAGE, "listen", "Listening with pocketsphinx")
    if not name and best_listener(checkpoints) is None:
        raise JobError(
            "nothing here can listen whether the words are right; run `python -m ovi_studio download whisper`, or "
            "install the extra `listen` with `pip install '.[listen]' -c constraints.txt`."
        )


def _has_whisper(checkpoints: Path) -> bool:
    return (checkpoints / WHISPER_FOLDER / "config.json").is_file()
