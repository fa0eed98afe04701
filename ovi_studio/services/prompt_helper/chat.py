"""The protocol of a chat model, and the limits of an answer."""

import base64
import time
from dataclasses import dataclass, field
from typing import Protocol

from ovi_studio.core.errors import JobError

MAX_ANSWER = 20_000
"""Characters; an answer that goes on beyond them has lost its way."""
SECONDS = 60.0
"""How long an answer may take in all."""


@dataclass(frozen=True)
class Message:
    """A message of a conversation."""

    role: str
    """`system`, `user` or `assistant`."""
    text: str
    picture: bytes | None = None
    """A JPEG, for models that can see."""

    def to_dict(self) -> dict[str, object]:
        """As OpenAI-compatible servers and chat templates take it."""
        if self.picture is None:
            return {"role": self.role, "content": self.text}
        address = f"data:image/jpeg;base64,{base64.b64encode(self.picture).decode()}"
        content = [{"type": "text", "text": self.text}, {"type": "image_url", "image_url": {"url": address}}]
        return {"role": self.role, "content": content}


class ChatModel(Protocol):
    """A model that continues a conversation."""

    @property
    def place(self) -> str:
        """Where prompts go, as in "the server at http://localhost:11434 (llama3.2)"."""

    def answer(self, messages: list[Message], deadline: "Deadline") -> str:
        """The whole text of the next message. Raises `JobError`, also if it is not complete by the deadline."""

    def close(self) -> None:
        """Release what the model holds."""


@dataclass(frozen=True)
class Deadline:
    """A moment by which an answer must be complete."""

    seconds: float = SECONDS
    start: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds; 0 once it has passed."""
        return max(0.0, self.start + self.seconds - time.monotonic())

    def require(self, place: str) -> None:
        """Raise `JobError` if it has passed."""
        if not self.left:
            raise self.missed(place)

    def missed(self, place: str) -> JobError:
        return JobError(
            f"{place[:1].upper()}{place[1:]} did not finish its answer within {self.seconds:g} seconds; use a "
            f"smaller model, or allow more with --helper-seconds."
        )


def require_short(text: str, place: str) -> None:
    """Raise `JobError` if an answer has become too long."""
    if len(text) > MAX_ANSWER:
        raise JobError(f"{place[:1].upper()}{place[1:]} gave an answer without end; try again, or use another model.")
