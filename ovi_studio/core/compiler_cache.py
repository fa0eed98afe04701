"""Where torch's compiler keeps what it has compiled, so that the next process need not compile it. Imports no torch."""

import atexit
import os
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path

_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


def keep_compiled_code(folder: Path, environment: MutableMapping[str, str] = os.environ) -> None:
    """Keep compiled code in a folder, unless the user has chosen one; torch creates it.

    Its default is a folder for temporary files, which is empty after a restart of the system.
    """
    if environment.setdefault(_VARIABLE, str(folder)) == str(folder):
        atexit.register(_remove_if_empty, folder)


def _remove_if_empty(folder: Path) -> None:
    """Remove the folder and the state's, which torch has created even where nothing was compiled."""
    with suppress(OSError):
        for path in (folder, folder.parent, folder.parent.parent):
            path.rmdir()
