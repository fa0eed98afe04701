"""Imports `spandrel`, the optional package that recognises the architectures of upscalers.

It requires torchvision for two of its forty architectures: one for masks, which is refused here, and one for faces.
Where torchvision is not installed, or does not load beside this build of torch, those two are left out.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from types import ModuleType
from typing import Any, NoReturn

from ovi_studio.core.errors import JobError
from ovi_studio.core.extras import import_extra

_FUNCTIONAL = "torchvision.transforms.functional"


def import_spandrel() -> Any:
    """Return the package; raises `JobError` if it is not installed."""
    if "spandrel" in sys.modules:
        return sys.modules["spandrel"]
    with _torchvision():
        return import_extra("spandrel", "improve", "Upscaling")


@contextmanager
def _torchvision() -> Iterator[None]:
    """Within the block torchvision can be imported, if need be a stand-in whose functions refuse to work."""
    try:
        importlib.import_module(_FUNCTIONAL)
    # Beside another build of torch its operators are missing, which is a RuntimeError.
    except (ImportError, OSError, RuntimeError):
        _forget()
        names = ["torchvision", "torchvision.transforms", _FUNCTIONAL]
        modules = {name: ModuleType(name) for name in names}
        for name, value in (("InterpolationMode", _Mode), ("rotate", _missing), ("normalize", _missing)):
            setattr(modules[_FUNCTIONAL], name, value)
        sys.modules.update(modules)
        try:
            yield
        finally:
            _forget()
    else:
        yield


def _forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]


class _Mode(Enum):
    NEAREST = "nearest"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"


def _missing(*_: Any, **__: Any) -> NoReturn:
    raise JobError("This model needs torchvision, which does not load here; install the one that fits this torch.")
