"""The listener for most languages: Whisper through transformers, from a folder or a name on the hub."""

from pathlib import Path
from typing import Any

import numpy as np

from ovi_studio.core.errors import JobError
from ovi_studio.core.extras import import_extra
from ovi_studio.core.variants import SAMPLE_RATE
from ovi_studio.takes.words import HeardWord


class Whisper:
    """A model of OpenAI's Whisper, or one that was trained from it. See `Listener`.

    Args:
        model: a folder, or a name on the hub, which is downloaded into the hub's cache at the first use.
        device: as torch names it; a model of this size is quick enough on a CPU.
    """

    def __init__(self, model: str, device: str = "cpu") -> None:
        self.name = Path(model).name if Path(model).is_dir() else model
        transformers: Any = import_extra("transformers", "listen", "Listening with Whisper")
        try:
            self._recognise = transformers.pipeline(
                "automatic-speech-recognition", model=model, device=device, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise JobError(
                f"{model} cannot be loaded as a Whisper model ({reason}); name its folder, or run "
                f"`python -m ovi_studio download whisper` and name `whisper`."
            ) from error

    def listen(self, samples: np.ndarray) -> list[HeardWord]:
        """See `Listener`."""
        found = self._recognise(
            {"raw": samples.astype(np.float32), "sampling_rate": SAMPLE_RATE}, return_timestamps="word"
        )
        seconds = len(samples) / SAMPLE_RATE
        return [_word(chunk, seconds) for chunk in found["chunks"] if chunk["text"].strip()]


def _word(chunk: dict[str, Any], seconds: float) -> HeardWord:
    start, end = chunk["timestamp"]
    # The last word may have no end.
    return HeardWord(chunk["text"].strip(), start, seconds if end is None else end)
