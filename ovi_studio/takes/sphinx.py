"""The listener that needs no download: `pocketsphinx` with the English model in its package (extra `listen`)."""

import numpy as np

from ovi_studio.core.extras import import_extra
from ovi_studio.core.variants import SAMPLE_RATE
from ovi_studio.takes.words import HeardWord

NAME = PACKAGE = "pocketsphinx"
_RATE = 100
"""Frames of the recogniser a second."""


class Sphinx:
    """English only; hears clear speech without music. See `Listener`."""

    name = NAME

    def __init__(self) -> None:
        module = import_extra(PACKAGE, "listen", "Listening with pocketsphinx")
        self._decoder = module.Decoder(samprate=SAMPLE_RATE, frate=_RATE, loglevel="FATAL")

    def listen(self, samples: np.ndarray) -> list[HeardWord]:
        """See `Listener`."""
        data = (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
        self._decoder.start_utt()
        self._decoder.process_raw(data, full_utt=True)
        self._decoder.end_utt()
        # `<sil>` and `[NOISE]` are no words; `read(2)` is the second pronunciation of one.
        return [
            HeardWord(part.word.partition("(")[0], part.start_frame / _RATE, (part.end_frame + 1) / _RATE)
            for part in self._decoder.seg() or ()
            if part.word[0] not in "<["
        ]
