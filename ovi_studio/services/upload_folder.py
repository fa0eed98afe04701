"""`UploadFolder`: the folder for browser uploads. Not in `web`, which imports Gradio, which reads its name on import.

The folder belongs to the studio, and other users cannot read it. Files are deleted by age (`studio_page.CACHE_SECONDS`)
and when the page starts, and are limited to `MAX_UPLOADS` in total.
"""

import os
import shutil
from pathlib import Path

from ovi_studio.media.small_files import folder_errors

MAX_UPLOADS = 4 * 2**30
"""Limit in bytes for all uploads together."""
_VARIABLE = "GRADIO_TEMP_DIR"


class UploadFolder:
    """The folder for uploads until they are queued. Create it before Gradio is imported.

    Raises `JobError` if the folder cannot be created.
    """

    def __init__(self, path: Path, limit: int = MAX_UPLOADS) -> None:
        self.path = path
        self._limit = limit
        with folder_errors(path):
            # Uploads of an earlier run are no longer needed.
            shutil.rmtree(path, ignore_errors=True)
        use_folder(path)

    def has_room(self, size: int) -> bool:
        """Whether an upload of `size` bytes fits."""
        files = (Path(folder) / name for folder, _, names in os.walk(self.path) for name in names)
        return sum(_size(file) for file in files) + size <= self._limit


def use_folder(path: Path) -> None:
    """Let Gradio, which is imported later, write to this folder and not to one that it shares with other users."""
    with folder_errors(path):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.environ[_VARIABLE] = str(path)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0  # deleted in the meantime
