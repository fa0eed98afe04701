"""Ovi Studio: clips with picture and sound from a prompt or a first frame."""

import os

from ovi_studio.core.allocator import configure_allocator

__version__ = "0.2.0"

# Nothing that a person does here is reported to anybody; the libraries read these when they are imported.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

# Read by torch when it first allocates, so it has to be there before anything imports torch.
configure_allocator()
