"""Where torch's compiler keeps what it has compiled, so that the next process need not compile it. Imports no torch."""

import atexit
import os
from collections.abc import MutableMapping, Sequence
from contextlib import suppress
from pathlib import Path

_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


def keep_compiled_code(folder: Path, environment: MutableMapping[str, str] = os.environ) -> None:
    """Keep compiled code in a folder, unless the user has chosen one; torch creates it.

    Its default is a folder for temporary files, which is empty after a restart of the system.
    """
    if environment.setdefault(_VARIABLE, str(folder)) == str(folder):
        # torch creates it even where nothing is compiled.
        atexit.register(remove_empty, [path for path in (folder, *folder.parents) if not path.exists()])


def remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders, the innermost first, up to one that is not empty."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()
