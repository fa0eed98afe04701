"""The web page: Gradio components and the services they call. Imports no torch.

Gradio is first imported here, without telemetry and without generating stub files: for each of its 80 components it
parses its own source to write a stub next to it, which took 2.0 of the 4.3 seconds of its import (6.31). A component
whose source cannot be found gets no stub.

After starting, Gradio requests its own page and gives up if no answer comes within 3 seconds (6.31), which a busy
machine or a proxy in the environment can prevent. The server is running by then, so that check is disabled, and
Gradio's requests to this machine bypass the proxy.
"""

import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
for name in ("NO_PROXY", "no_proxy"):
    os.environ[name] = ",".join(filter(None, [os.environ.get(name), "localhost", "127.0.0.1", "::1"]))


@contextmanager
def _without_source_of_components() -> Iterator[None]:
    getfile = inspect.getfile

    # The parameter is named as in `inspect`, for callers that pass it by keyword.
    def refuse(object: Any) -> str:
        if isinstance(object, type) and object.__module__.startswith("gradio."):
            raise OSError("no source is needed")
        return getfile(object)

    inspect.getfile = refuse
    try:
        yield
    finally:
        inspect.getfile = getfile


with _without_source_of_components():
    import gradio.networking
    import gradio.utils

gradio.networking.url_ok = lambda url: True
# By default in the working directory, which may not be writable; needed for share links only.
gradio.networking.CERTIFICATE_PATH = str(Path(gradio.utils.get_upload_folder()) / "certificate.pem")
