"""Where torch's compiler keeps what it has compiled, so that the next process need not compile it. Imports no torch."""

import os
from collections.abc import MutableMapping
from pathlib import Path

_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


def keep_compiled_code(folder: Path, environment: MutableMapping[str, str] = os.environ) -> None:
    """Keep compiled code in a folder, unless the user has chosen one; torch creates it.

    Its default is a folder for temporary files, which is empty after a restart of the system.
    """
    environment.setdefault(_VARIABLE, str(folder))
