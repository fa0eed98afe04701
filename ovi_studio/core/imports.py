"""Importing torch and what builds on it."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any


@contextmanager
def without_collecting() -> Iterator[None]:
    """Collect no garbage until the block ends.

    These libraries create a million objects that stay; looking through them again and again is a sixth of the time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def postpone(name: str) -> None:
    """Import a module no sooner than something of it is used: for what a library imports and we hardly need."""
    sys.modules.setdefault(name, _Postponed(name))


class _Postponed(ModuleType):
    """Stands for a module that is not imported yet."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # every module is asked for these, also by whoever does not use it
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)
