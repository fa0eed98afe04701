"""The page: components and the services that they call. Imports no torch.

Gradio is imported here first, so that it is imported without telemetry and without its stub files: for each of its 80
components it parses its own source to write a stub beside it, which took 2.0 of the 4.3 seconds of its import (6.31).
A component without a source file gets none.

After its start Gradio asks its own page for an answer and gives up if none comes within 3 seconds (6.31), which a busy
machine or a proxy of the environment can prevent. The server runs by then, so it is not asked, and what Gradio asks
this machine does not go to a proxy.
"""

import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
for name in ("NO_PROXY", "no_proxy"):
    os.environ[name] = ",".join(filter(None, [os.environ.get(name), "localhost", "127.0.0.1", "::1"]))


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
    import gradio.networking

gradio.networking.url_ok = lambda url: True
