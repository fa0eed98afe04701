"""The studio's helper: one chat model for everybody, with a bounded number of questions at a time."""

import io
import threading
from pathlib import Path

from PIL import Image

from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import Variant
from ovi_studio.media.pictures import read_recent
from ovi_studio.services.prompt_helper.chat import ChatModel
from ovi_studio.services.prompt_helper.settings import HelperSettings
from ovi_studio.services.prompt_helper.suggestion import Suggestion, suggest

_AT_ONCE = 2
"""Questions to the model at a time; further ones are refused rather than kept waiting."""
_SEEN_SIDE = 768
"""Pixels of the longer side of a picture that the model looks at."""


class PromptHelper:
    """Suggests prompts by the owner's chat model. Thread-safe."""

    def __init__(self, settings: HelperSettings) -> None:
        self.settings = settings
        self._free = threading.BoundedSemaphore(_AT_ONCE)
        self._lock = threading.Lock()
        self._chat: ChatModel | None = None

    def suggest(self, prompt: str, variant: Variant, picture: Path | None = None) -> Suggestion:
        """Suggest a prompt in place of another; see `suggestion.suggest`. Raises `JobError`."""
        chat = self._connected()
        seen = None if picture is None else small_jpeg(picture)
        if not self._free.acquire(blocking=False):
            raise JobError("The helper is busy with other prompts; try again in a moment.")
        try:
            return suggest(chat, prompt, variant, seen, self.settings.seconds)
        finally:
            self._free.release()

    def close(self) -> None:
        with self._lock:
            if self._chat is not None:
                self._chat.close()
                self._chat = None

    def _connected(self) -> ChatModel:
        with self._lock:
            if self._chat is None:
                self._chat = self.settings.connect()
            return self._chat


def small_jpeg(path: Path) -> bytes:
    """A picture file as a JPEG that is small enough to be sent. Raises `JobError` if it cannot be read."""
    image = Image.fromarray(read_recent(path, raw_colours=False).pixels)
    image.thumbnail((_SEEN_SIDE, _SEEN_SIDE))
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
