"""`UploadFolder`: where files from browsers wait. Imports no Gradio, which reads the folder's name when imported.

It is the studio's own, which nobody else can read. Files are deleted by age (`studio_page.CACHE_SECONDS`) and when the
page starts, and together take no more than `MAX_UPLOADS`.
"""

import os
import shutil
from pathlib import Path

from ovi_studio.media.small_files import folder_errors

MAX_UPLOADS = 4 * 2**30
"""Bytes of all uploads together."""
_VARIABLE = "GRADIO_TEMP_DIR"


class UploadFolder:
    """Where a browser's files wait until they are queued. Make it before Gradio is imported.

    Raises `JobError` if it cannot be made.
    """

    def __init__(self, path: Path, limit: int = MAX_UPLOADS) -> None:
        self.path = path
        self._limit = limit
        with folder_errors(path):
            # What an earlier page left is of no use to this one.
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.environ[_VARIABLE] = str(path)

    def has_room(self, size: int) -> bool:
        """Whether an upload of so many bytes may come."""
        files = (Path(folder) / name for folder, _, names in os.walk(self.path) for name in names)
        return sum(_size(file) for file in files) + size <= self._limit


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0  # deleted in the meantime
