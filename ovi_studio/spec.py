"""`ClipSpec`: everything that decides what a clip looks and sounds like, and the only place where its limits stand.

The same type is the form of the page, the row of a CSV, the body of a call, the JSON inside an mp4 and the text of a
preset. It is validated once, when it is made; code behind it trusts it. Nothing here imports torch.
"""

import dataclasses
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ovi_studio.errors import JobError
from ovi_studio.prompts import MAX_PROMPT_LENGTH
from ovi_studio.sizes import picture_size, snap_size
from ovi_studio.variants import Variant

Solver = Literal["unipc", "euler", "dpm++"]
SOLVERS: tuple[Solver, ...] = get_args(Solver)

MAX_STEPS = 1000
MAX_SEED = 2**63 - 1
MAX_GUIDANCE = 100.0
MAX_SHIFT = 100.0
MAX_SIDE = 8192
"""Pixels; sizes are scaled to the variant's area anyway, so only their ratio matters."""
MAX_RATIO = 16.0
"""Longer side by shorter side; beyond it a scaled picture would be a thin strip."""

DEFAULT_VIDEO_NEGATIVE_PROMPT = "jitter, bad hands, blur, distortion"
DEFAULT_AUDIO_NEGATIVE_PROMPT = "robotic, muffled, echo, distorted"


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipSpec:
    """One clip as it was asked for. Raises `JobError` when a value is out of its limits."""

    prompt: str
    variant: str
    image: Path | None = None
    """The first frame; its aspect ratio then decides the clip's size."""
    size: tuple[int, int] | None = None
    """(height, width), scaled to the variant's pixel area; None is the variant's own size."""
    steps: int = 50
    solver: Solver = "unipc"
    shift: float = 5.0
    """Moves the sigma grid towards noise; larger for larger clips."""
    seed: int = 100
    video_guidance: float = 4.0
    audio_guidance: float = 3.0
    slg_layer: int | None = None
    """Block left out in the negative pass (skip-layer guidance); 0 or less: none; None: the variant's own."""
    video_negative_prompt: str = DEFAULT_VIDEO_NEGATIVE_PROMPT
    audio_negative_prompt: str = DEFAULT_AUDIO_NEGATIVE_PROMPT

    def __post_init__(self) -> None:
        _check_prompts(self)
        _check(self.solver in SOLVERS, f"Solver {self.solver!r} is not known; choose one of {', '.join(SOLVERS)}.")
        _check_range("steps", self.steps, 1, MAX_STEPS)
        _check_range("seed", self.seed, 0, MAX_SEED)
        _check_range("shift", self.shift, 0.01, MAX_SHIFT)
        _check_range("video guidance", self.video_guidance, 0, MAX_GUIDANCE)
        _check_range("audio guidance", self.audio_guidance, 0, MAX_GUIDANCE)
        if self.size is not None:
            _check_size(*self.size)

    @property
    def guided(self) -> bool:
        """Whether a negative pass changes anything."""
        return self.video_guidance != 1 or self.audio_guidance != 1

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, every field present."""
        values = dataclasses.asdict(self)
        values["image"] = None if self.image is None else str(self.image)
        values["size"] = None if self.size is None else list(self.size)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ClipSpec":
        """From JSON, a form or a row of text: strings are converted, empty ones mean "not given".

        Raises `JobError` for unknown names and for values that are not of their field's type.
        """
        unknown = sorted(set(values) - set(_PARSERS))
        _check(not unknown, f"Unknown setting {', '.join(unknown)}; known are {', '.join(_PARSERS)}.")
        # A negative prompt may be empty on purpose; anywhere else an empty text is no value.
        given = {name: value for name, value in values.items() if value is not None and value != ""}
        given |= {name: "" for name in _NEGATIVE_PROMPTS if values.get(name) == ""}
        missing = [name for name in ("prompt", "variant") if name not in given]
        _check("prompt" not in missing, "The prompt is empty; write what the clip should show and sound like.")
        _check(not missing, "No model variant is named; give one, for example 960x960_5s.")
        return cls(**{name: _parse(name, value) for name, value in given.items()})


def clip_size(spec: ClipSpec, variant: Variant, picture: tuple[int, int] | None = None) -> tuple[int, int]:
    """(height, width) that the clip will have, given the (height, width) of its first frame if it has one."""
    if picture is not None:
        return picture_size(*picture, variant.pixel_area)
    return snap_size(*(spec.size or variant.default_size), variant.pixel_area)


def parse_size(text: str) -> tuple[int, int]:
    """`704x1280` (height x width, as in the official configuration) as a pair; raises `JobError`."""
    try:
        height, width = (int(side) for side in text.lower().replace("*", "x").split("x"))
    except ValueError:
        raise JobError(f"Size {text!r} is not HEIGHTxWIDTH, for example 704x1280.") from None
    _check_size(height, width)
    return height, width


def _parse(name: str, value: Any) -> Any:
    try:
        return _PARSERS[name](value)
    except (TypeError, ValueError, OverflowError):
        raise JobError(f"{reprlib.repr(value)} is no value for {name.replace('_', ' ')}.") from None


def _whole(value: Any) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    # JSON can carry halves of surrogate pairs, which nothing behind here can store; this raises a ValueError.
    value.encode()
    return value


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, str):
        return parse_size(value)
    height, width = value
    return _whole(height), _whole(width)


_PARSERS = {
    "prompt": _text,
    "variant": _text,
    "image": Path,
    "size": _pair,
    "steps": _whole,
    "solver": _text,
    "shift": _number,
    "seed": _whole,
    "video_guidance": _number,
    "audio_guidance": _number,
    "slg_layer": _whole,
    "video_negative_prompt": _text,
    "audio_negative_prompt": _text,
}
_NEGATIVE_PROMPTS = ("video_negative_prompt", "audio_negative_prompt")


def _check(condition: bool, sentence: str) -> None:
    if not condition:
        raise JobError(sentence)


def _check_range(name: str, value: float, low: float, high: float) -> None:
    # NaN fails every comparison.
    _check(low <= value <= high, f"The {name} must be between {low} and {high}, not {reprlib.repr(value)}.")


def _check_size(height: int, width: int) -> None:
    _check(
        0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE,
        f"Size {height}x{width} is out of range; both sides must be between 1 and {MAX_SIDE} pixels.",
    )
    _check(
        max(height, width) <= MAX_RATIO * min(height, width),
        f"Size {height}x{width} is too long and thin; the longer side may be {MAX_RATIO:g} times the shorter.",
    )


def _check_prompts(spec: ClipSpec) -> None:
    _check(bool(spec.prompt.strip()), "The prompt is empty; write what the clip should show and sound like.")
    for name in ("prompt", *_NEGATIVE_PROMPTS):
        length = len(getattr(spec, name))
        _check(
            length <= MAX_PROMPT_LENGTH,
            f"The {name.replace('_', ' ')} has {length} characters; shorten it to {MAX_PROMPT_LENGTH}.",
        )
