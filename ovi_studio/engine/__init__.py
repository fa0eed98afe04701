"""The engine: a process of its own that holds the models and makes clips.

This module is what it says, one JSON object a line, from the engine to who started it: `Loading`, `Progress`,
`Decoding`, and one of `Done`, `Failed` and `Cancelled` at the end of every request. Nothing here imports torch.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Loading:
    """The checkpoint of another variant is being read."""

    variant: str


@dataclass(frozen=True)
class Progress:
    """Steps that are done; `index` 0 comes before the first one, while the prompt is read."""

    index: int
    total: int
    seconds_per_step: float | None = None
    seconds_left: float | None = None
    """Until the clip is there, once a clip of this variant was made; until then, to the last step."""


@dataclass(frozen=True)
class Decoding:
    """All steps are done; frames and samples are being made and written."""

    seconds_left: float | None = None


@dataclass(frozen=True)
class Done:
    """The clip lies under its name."""

    path: Path
    poster: Path
    size: tuple[int, int]
    """(height, width)"""
    seconds: float
    """Since the request, without the time to load."""


@dataclass(frozen=True)
class Failed:
    """There is no clip; the sentence says why and what to do."""

    reason: str


@dataclass(frozen=True)
class Cancelled:
    """There is no clip because nobody wants it any more."""


Event = Loading | Progress | Decoding | Done | Failed | Cancelled
Ending = Done | Failed | Cancelled

_BY_NAME = {
    "loading": Loading,
    "step": Progress,
    "decoding": Decoding,
    "done": Done,
    "failed": Failed,
    "cancelled": Cancelled,
}
_NAMES = {kind: name for name, kind in _BY_NAME.items()}


def event_to_line(event: Event) -> str:
    """One line of JSON without its end."""
    return json.dumps({"event": _NAMES[type(event)], **dataclasses.asdict(event)}, default=str)


def event_from_line(line: str | bytes) -> Event:
    """Undo `event_to_line`."""
    values = json.loads(line)
    kind = _BY_NAME[values.pop("event")]
    if kind is Done:
        values |= {"path": Path(values["path"]), "poster": Path(values["poster"]), "size": tuple(values["size"])}
    return kind(**values)
