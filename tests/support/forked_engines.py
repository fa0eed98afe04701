"""Forks engines of forked pages, too, if they make clips of real models; the server of pages imports it."""

from collections.abc import Mapping, Sequence
from typing import BinaryIO

from warm_start import PIPELINES

from ovi_studio.engine.supervisor import Child, Supervisor, start_engine
from ovi_studio.runtime.clip_runner import OVI_MODELS


def start(command: Sequence[str], environment: Mapping[str, str], words: BinaryIO) -> Child:
    """Start an engine; to import torch takes most of the time, so only then is it forked."""
    forked = PIPELINES.is_ready and OVI_MODELS in command
    return (PIPELINES.start_engine if forked else start_engine)(command, environment, words)


Supervisor.__init__.__kwdefaults__["start_engine"] = start
