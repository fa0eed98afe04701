"""`Soundtracks`: the sounds of clips for the player, analysed once and kept in the state folder. Thread-safe."""

import contextlib
import hashlib
import io
import threading
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from ovi_studio.core.errors import JobError
from ovi_studio.media.small_files import folder_errors, write_atomically
from ovi_studio.media.soundtrack import Soundtrack, read_soundtrack

MAX_KEPT = 400
"""Analyses in the state folder, of up to 100 kB each; the oldest is deleted first."""
_VERSION = 1
"""Increases when what is kept, or how it is computed, changes."""


class Soundtracks:
    """The analysed sounds of one studio's clips."""

    def __init__(self, state: Path) -> None:
        self._folder = state / "sound"
        # One analysis at a time: a page that asks for many must not keep the cores from the engine.
        self._working = threading.Lock()

    def get(self, clip: Path) -> Soundtrack:
        """The sound of an mp4; raises `JobError` if it has none or cannot be decoded."""
        kept = self._folder / f"{_key(clip)}.npz"
        with self._working:
            found = _load(kept)
            if found is None:
                found = read_soundtrack(clip)
                # The player works without the cache.
                with contextlib.suppress(JobError):
                    write_atomically(kept, _dump(found))
                    self._forget_old()
            return found

    def _forget_old(self) -> None:
        with folder_errors(self._folder):
            kept = sorted(self._folder.glob("*.npz"), key=lambda path: path.stat().st_mtime_ns)
            for path in kept[:-MAX_KEPT]:
                path.unlink(missing_ok=True)


def spectrogram_png(sound: Soundtrack) -> bytes:
    """The spectrogram as a white picture with its levels as opacity, so that a page can give it any colour."""
    white = np.full_like(sound.spectrogram, 255)
    buffer = io.BytesIO()
    Image.fromarray(np.stack([white, sound.spectrogram], -1), "LA").save(buffer, "PNG")
    return buffer.getvalue()


def _key(clip: Path) -> str:
    try:
        status = clip.stat()
    except OSError as error:
        raise JobError("The clip no longer exists; it was moved or deleted.") from error
    return hashlib.sha256(f"{_VERSION}\0{clip.name}\0{status.st_size}\0{status.st_mtime_ns}".encode()).hexdigest()[:40]


def _dump(sound: Soundtrack) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, seconds=sound.seconds, peaks=sound.peaks, spectrogram=sound.spectrogram, voice=sound.voice
    )
    return buffer.getvalue()


def _load(path: Path) -> Soundtrack | None:
    """What `_dump` wrote; None if there is nothing that can be read."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            return Soundtrack(float(kept["seconds"]), kept["peaks"], kept["spectrogram"], kept["voice"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
