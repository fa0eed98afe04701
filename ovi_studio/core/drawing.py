"""`Drawing`: how the first frame of a clip is drawn by an image model before the clip is made.

The defaults are those of the official code's mode `t2i2v`. Requests have flat names for it, such as `image_steps` for a
column of a table; `gather_drawing` makes the fields of a `Drawing` of them.
"""

import math
import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ovi_studio.core.errors import JobError
from ovi_studio.core.prompts import MAX_PROMPT_LENGTH, AudioTag, format_prompt
from ovi_studio.core.values import as_flag, as_integer, as_number, as_text

OFFICIAL_MODEL = "black-forest-labs/FLUX.1-Krea-dev"
OFFICIAL_GUIDANCE = 4.5
OFFICIAL_AREA = 1024 * 1024
SIDE_UNIT = 16
"""Sides of drawn pictures are multiples of it, and of what the model needs."""
MAX_STEPS = 1000
MAX_SEED = 2**63 - 1
MAX_GUIDANCE = 100.0
MAX_MODEL_NAME = 1000
MAX_CANDIDATES = 4
"""Pictures to choose from."""

DRAWS = "draw_first_frame"
FLAT_NAMES: Mapping[str, str] = {
    "image_model": "model",
    "image_prompt": "prompt",
    "image_negative_prompt": "negative_prompt",
    "image_steps": "steps",
    "image_guidance": "guidance",
    "image_seed": "seed",
}
"""Names of the settings in tables, on the command line and in the API -> field of `Drawing`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """How a first frame is drawn. Raises `JobError` if a value exceeds its limits."""

    model: str = OFFICIAL_MODEL
    """A text-to-image pipeline of diffusers: its name on the hub, or below the checkpoint directory, or its folder."""
    prompt: str = ""
    """Empty: that of the clip, without speech and sound."""
    negative_prompt: str = ""
    steps: int | None = None
    """None: the pipeline's own default."""
    guidance: float | None = None
    """None: `OFFICIAL_GUIDANCE` for the official model, and the pipeline's own default for any other."""
    seed: int | None = None
    """None: that of the clip."""
    sha256: str | None = None
    """Hash of the model's files, once the picture is drawn."""

    def __post_init__(self) -> None:
        _check(
            0 < len(self.model.strip()) <= MAX_MODEL_NAME and self.model.isprintable(),
            f"{reprlib.repr(self.model)} is not the name of an image model; name a folder, or a repository on the hub.",
        )
        for name in ("prompt", "negative_prompt"):
            length = len(getattr(self, name))
            _check(
                length <= MAX_PROMPT_LENGTH,
                f"The image {name.replace('_', ' ')} has {length} characters; shorten it to {MAX_PROMPT_LENGTH}.",
            )
        for name, low, high in (("steps", 1, MAX_STEPS), ("guidance", 0, MAX_GUIDANCE), ("seed", 0, MAX_SEED)):
            value = getattr(self, name)
            _check(
                value is None or low <= value <= high,  # NaN fails every comparison
                f"The image {name} must be between {low} and {high}, not {reprlib.repr(value)}.",
            )

        _check(
            not self.negative_prompt or self.guidance is None or self.guidance > 1,
            "The image negative prompt has no effect with a guidance of 1 or less; leave it out.",
        )

    @property
    def drawn(self) -> bool:
        """Whether this tells how a picture was drawn, rather than how one is to be drawn."""
        return self.sha256 is not None

    @property
    def official(self) -> bool:
        """Whether the model is the one of the official code."""
        return self.model == OFFICIAL_MODEL

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> "Drawing":
        """From JSON or texts; empty texts mean "not given". Raises `JobError`."""
        if not isinstance(values, Mapping) or not values.keys() <= _PARSERS.keys():
            raise JobError(
                f"{reprlib.repr(values)} does not say how a first frame is drawn; give {', '.join(_PARSERS)}."
            )
        given = {name: value for name, value in values.items() if value is not None and value != ""}
        return cls(**{name: _parse(name, value) for name, value in given.items()})


def gather_drawing(values: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the flat names of a request by its entry `drawing`, a mapping or None, which the given ones override.

    Raises `JobError` if they say how to draw a first frame that is not to be drawn.
    """
    rest = {name: value for name, value in values.items() if name != DRAWS and name not in FLAT_NAMES}
    flat = {name: value for name in FLAT_NAMES if (value := values.get(name)) is not None and value != ""}
    asked, known = _asked(values.get(DRAWS)), rest.get("drawing")
    if asked is None and not known:
        if flat:
            raise JobError(f"{next(iter(flat))} says how a first frame is drawn, but none is; set {DRAWS} as well.")
        return rest
    if asked is False:
        return rest | {"drawing": None}
    base = asdict(Drawing()) if known is None else Drawing.from_dict(known).to_dict()
    if base["sha256"] is not None and (asked or flat):  # anew: of the clip as it is now
        base |= {"sha256": None, "prompt": "", "seed": None}
    return rest | {"drawing": base | {FLAT_NAMES[name]: value for name, value in flat.items()}}


def without_drawing(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a request without anything about drawing."""
    return {name: value for name, value in values.items() if name not in (DRAWS, "drawing", *FLAT_NAMES)}


def drawing_prompt(prompt: str, tag: AudioTag) -> str:
    """What an image model is told: a clip's prompt without speech and sound, as `clean_text` of the official code.

    The official code removes them from the prompt in the form of the variant.
    """
    text = format_prompt(prompt, tag)
    for pattern in (r"<S>.*?<E>", r"<AUDCAP>.*?<ENDAUDCAP>", r"Audio:\s*.*"):
        text = re.sub(pattern, "", text, flags=re.DOTALL)
    return text.strip()


def drawing_size(height: int, width: int, area: int = OFFICIAL_AREA, unit: int = SIDE_UNIT) -> tuple[int, int]:
    """(height, width) of the picture for a clip of this size: `area` pixels of the same aspect ratio.

    `scale_hw_to_area_divisible` of the official code.
    """
    scale = math.sqrt(area / (height * width))
    return _side(height * scale, unit), _side(width * scale, unit)


def _side(length: float, unit: int) -> int:
    return max(unit, round(length / unit) * unit)


def _asked(value: Any) -> bool | None:
    """Whether a first frame is to be drawn; None if nothing is said about it."""
    if value is None or value == "":
        return None
    try:
        return as_flag(value)
    except ValueError:
        raise JobError(f"{reprlib.repr(value)} is not a valid value for {DRAWS}; write yes or no.") from None


_PARSERS: Mapping[str, Callable[[Any], Any]] = {
    "model": lambda value: as_text(value).strip(),
    "prompt": as_text,
    "negative_prompt": as_text,
    "steps": as_integer,
    "guidance": as_number,
    "seed": as_integer,
    "sha256": as_text,
}


def _parse(name: str, value: Any) -> Any:
    try:
        return _PARSERS[name](value)
    except (TypeError, ValueError, OverflowError):
        raise JobError(f"{reprlib.repr(value)} is not a valid value for image {name.replace('_', ' ')}.") from None


def _check(condition: bool, sentence: str) -> None:
    if not condition:
        raise JobError(sentence)
