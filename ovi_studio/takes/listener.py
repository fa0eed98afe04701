"""`Listener`: whatever turns the sound of a clip into words with their times."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ovi_studio.takes.words import HeardWord


class Listener(Protocol):
    """A recogniser of speech. Loading one takes seconds; use it for many clips, from one thread."""

    @property
    def name(self) -> str:
        """What recognises, such as `pocketsphinx` or a model's name; it is recorded with the scores."""

    def listen(self, samples: np.ndarray) -> Sequence[HeardWord]:
        """The words in float32 (N,), mono, `SAMPLE_RATE` a second, in order; raises `JobError` if it cannot work."""
