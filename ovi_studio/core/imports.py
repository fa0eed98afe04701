"""Importing torch and what builds on it."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collecting() -> Iterator[None]:
    """Collect no garbage until the block ends, and never again look for any in what it has imported.

    These libraries create a million objects that stay. To look through them again and again is a sixth of the time that
    an import takes; and to do so once more when the program ends would be a good part of a second.
    """
    enabled = gc.isenabled()
    gc.disable()
    # What is garbage now would otherwise stay, too. There is little to look through before anything large is imported.
    gc.collect()
    imported = len(sys.modules)
    try:
        yield
    finally:
        if len(sys.modules) > imported:
            gc.freeze()
        if enabled:
            gc.enable()
