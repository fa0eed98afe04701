"""The page: components and the services that they call. Imports no torch.

Gradio is imported here first, so that it is imported without telemetry and without its stub files: for each of its 80
components it parses its own source to write a stub beside it, which took 2.0 of the 4.3 seconds of its import (6.31).
A component without a source file gets none.
"""

import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")


@contextmanager
def _without_source_of_components() -> Iterator[None]:
    getfile = inspect.getfile

    def refuse(thing: Any) -> str:
        if isinstance(thing, type) and thing.__module__.startswith("gradio."):
            raise OSError("no source is needed")
        return getfile(thing)

    inspect.getfile = refuse
    try:
        yield
    finally:
        inspect.getfile = getfile


with _without_source_of_components():
    import gradio  # noqa: F401
