"""`ClipSpec`: everything that determines what a clip looks and sounds like, and the only place that defines its limits.

The same type is used for the form on the page, the row of a CSV, the body of an API call, the JSON inside an mp4 and
the text of a preset. It is validated once, on construction, and trusted afterwards. Nothing here imports torch.
"""

import dataclasses
import itertools
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ovi_studio.core.adapter_stack import Stack, parse_stack, stack_to_json
from ovi_studio.core.drawing import DRAWS, FLAT_NAMES, MAX_GUIDANCE, MAX_SEED, MAX_STEPS, Drawing, gather_drawing
from ovi_studio.core.errors import JobError
from ovi_studio.core.prompt_tags import read_tags
from ovi_studio.core.prompts import MAX_PROMPT_LENGTH
from ovi_studio.core.sizes import check_size, parse_size, picture_size, snap_size, source_size
from ovi_studio.core.solvers import find_solver
from ovi_studio.core.spans import ALL, NOTHING, Spans, check_spans, format_spans, parse_spans
from ovi_studio.core.step_caches import OFF, find_step_cache
from ovi_studio.core.values import as_flag, as_integer, as_number, as_text
from ovi_studio.core.variants import Variant

MAX_SHIFT = 100.0
MAX_TIMESTEP = 1000.0
MIN_STRENGTH = 0.01
MAX_RESAMPLES = 20

DEFAULT_VIDEO_NEGATIVE_PROMPT = "jitter, bad hands, blur, distortion"
DEFAULT_AUDIO_NEGATIVE_PROMPT = "robotic, muffled, echo, distorted"


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipSpec:
    """The request for one clip. Raises `JobError` if a value exceeds its limits."""

    prompt: str
    variant: str
    image: Path | None = None
    """The first frame; its aspect ratio then determines the clip's size."""
    raw_colours: bool = False
    """Ignore the first frame's colour profile and transparency, as the official code does."""
    drawing: Drawing | None = None
    """How the first frame is to be drawn, or was drawn; None: it is given, or there is none."""
    size: tuple[int, int] | None = None
    """(height, width), scaled to the variant's pixel area; None: the variant's default size."""
    steps: int = 50
    solver: str = "unipc"
    """A name in `core.solvers`."""
    shift: float = 5.0
    """Moves the sigma grid towards noise; larger for larger clips. Explicit timesteps are not moved."""
    timesteps: tuple[float, ...] | None = None
    """Where the model is evaluated, from noise (1000) to clean; None: the solver's own grid of `steps`."""
    seed: int = 100
    video_guidance: float = 4.0
    audio_guidance: float = 3.0
    slg_layer: int | None = None
    """Block skipped in the negative pass (skip-layer guidance); 0 or less: none; None: the variant's default."""
    step_cache: str = OFF
    """A name in `core.step_caches`: what steps with guidance leave out."""
    video_negative_prompt: str = DEFAULT_VIDEO_NEGATIVE_PROMPT
    audio_negative_prompt: str = DEFAULT_AUDIO_NEGATIVE_PROMPT
    accelerators: Stack = ()
    """Adapters that belong to the sampling settings, such as those of a lightning preset."""
    adapters: Stack = ()
    """Adapters for style and content, which are kept when the sampling settings are changed."""
    typed_prompt: str = ""
    """What a person wrote, if the prompt is a helper's suggestion that was accepted; decides nothing about the clip."""
    source: Path | None = None
    """A clip, video or sound of which a part is kept, or from whose latents the clip starts."""
    source_sha256: str | None = None
    """Hash of the source, in hexadecimal; None: whatever the file contains when the clip is queued or made."""
    keep_picture: Spans = NOTHING
    """What of the source's picture is kept; its aspect ratio then determines the clip's size."""
    keep_sound: Spans = NOTHING
    """What of the source's sound is kept."""
    strength: float = 1.0
    """Fraction of the steps that are made; below 1 what is not kept starts from the source, and not from noise."""
    resamples: int = 0
    """How often each step is made again before it counts, so that what is made fits better to what is kept."""

    def __post_init__(self) -> None:
        _check_prompts(self)
        find_solver(self.solver)
        find_step_cache(self.step_cache)
        _check_range("steps", self.steps, 1, MAX_STEPS)
        _check_range("seed", self.seed, 0, MAX_SEED)
        _check_range("shift", self.shift, 0.01, MAX_SHIFT)
        _check_range("video guidance", self.video_guidance, 0, MAX_GUIDANCE)
        _check_range("audio guidance", self.audio_guidance, 0, MAX_GUIDANCE)
        if self.size is not None:
            check_size(*self.size)
        if self.timesteps is not None:
            _check_timesteps(self.timesteps, self.steps)
        _check_stacks(self.accelerators, self.adapters)
        _check_drawing(self)
        _check_source(self)

    @property
    def to_draw(self) -> Drawing | None:
        """How the first frame is still to be drawn; None if it is there, or if there is to be none."""
        return None if self.drawing is None or self.drawing.drawn else self.drawing

    @property
    def uses_picture(self) -> bool:
        """Whether the source must have a picture."""
        return bool(self.keep_picture) or self.strength < 1

    @property
    def uses_sound(self) -> bool:
        """Whether the source must have sound."""
        return bool(self.keep_sound) or self.strength < 1

    @property
    def made_steps(self) -> int:
        """Steps that are made: with a strength below 1 only the last ones, but at least one."""
        return made_steps(self.steps, self.strength)

    @property
    def evaluated_steps(self) -> int:
        """Steps that are computed, counting those that are made again; the time of a clip follows from them."""
        return self.made_steps * (1 + self.resamples)

    @property
    def guided(self) -> bool:
        """Whether a negative pass has any effect."""
        return self.video_guidance != 1 or self.audio_guidance != 1

    @property
    def stack(self) -> Stack:
        """All adapters; both kinds are applied in the same way."""
        return self.accelerators + self.adapters

    def with_settings(self, settings: Mapping[str, Any]) -> "ClipSpec":
        """A copy with other settings (see `merge_settings`); raises `JobError`."""
        return ClipSpec.from_dict(merge_settings(self.to_dict(), settings))

    def without_source(self) -> "ClipSpec":
        """A copy that keeps nothing of another file."""
        defaults: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(self)}
        return dataclasses.replace(self, **{name: defaults[name] for name in SOURCE_FIELDS})

    def with_stack(self, stack: Stack) -> "ClipSpec":
        """A copy with this stack in place of the old one, which has the same number of adapters."""
        count = len(self.accelerators)
        return dataclasses.replace(self, accelerators=stack[:count], adapters=stack[count:])

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON values."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name in ("image", "source"):
            values[name] = None if values[name] is None else str(values[name])
        for name in ("keep_picture", "keep_sound"):
            values[name] = format_spans(values[name])
        for name in ("size", "timesteps"):
            values[name] = None if values[name] is None else list(values[name])
        values["drawing"] = None if self.drawing is None else self.drawing.to_dict()
        for name in ADAPTER_LISTS:
            values[name] = stack_to_json(values[name])
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ClipSpec":
        """From JSON, a form or a row of text: strings are converted, and empty strings mean "not given".

        What is said about drawing a first frame may have flat names (`core.drawing.gather_drawing`). Tags in the prompt
        such as `<lora:film:0.8>` become adapters (`core.prompt_tags`).

        Raises `JobError` for unknown names and for values of the wrong type.
        """
        known = {**_PARSERS, DRAWS: None, **FLAT_NAMES}
        unknown = sorted(set(values) - set(known))
        _check(not unknown, f"Unknown setting {', '.join(unknown)}; valid settings are {', '.join(known)}.")
        values = gather_drawing(values)
        # A negative prompt may be empty on purpose; for any other field an empty string means "not given".
        given = {name: value for name, value in values.items() if value is not None and value != ""}
        given |= {name: "" for name in _NEGATIVE_PROMPTS if values.get(name) == ""}
        missing = [name for name in ("prompt", "variant") if name not in given]
        _check("prompt" not in missing, "The prompt is empty; write what the clip should show and sound like.")
        _check(not missing, "No model variant is given; choose one, for example 960x960_5s.")
        parsed = {name: _parse(name, value) for name, value in given.items()}
        if parsed.get("timesteps") is not None:
            parsed.setdefault("steps", len(parsed["timesteps"]))
        parsed["prompt"], tagged = read_tags(parsed["prompt"])
        parsed["adapters"] = parsed.get("adapters", ()) + tagged
        return cls(**parsed)

    @classmethod
    def from_record(cls, values: Mapping[str, Any]) -> "ClipSpec":
        """From what is stored with a clip or a job; a setting that is missing did not exist when that was written.

        Raises `JobError` like `from_dict`.
        """
        return cls.from_dict({**_BEFORE_IT_EXISTED, **values})


def merge_settings(base: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a clip: those of `base`, overridden by those that are `given`.

    The number of steps and explicit timesteps are two ways to say the same thing, so giving one drops the other.
    """
    kept = dict(base)
    for name, other in (("steps", "timesteps"), ("timesteps", "steps")):
        if given.get(name) not in (None, "") and given.get(other) in (None, ""):
            kept.pop(other, None)
    return kept | dict(given)


def parse_timesteps(text: str) -> tuple[float, ...] | None:
    """Parse `1000,750,500,250`; None for an empty string. Raises `JobError`."""
    try:
        numbers = tuple(float(number) for number in text.replace(";", ",").split(",")) if text.strip() else ()
    except ValueError:
        sentence = f"{reprlib.repr(text)} is not a list of timesteps; write numbers such as 1000,750,500,250."
        raise JobError(sentence) from None
    return numbers or None


def format_timesteps(timesteps: tuple[float, ...] | None) -> str:
    """The inverse of `parse_timesteps`."""
    return ",".join(f"{timestep:.12g}" for timestep in timesteps or ())


def clip_size(
    spec: ClipSpec,
    variant: Variant,
    picture: tuple[int, int] | None = None,
    source: tuple[int, int] | None = None,
) -> tuple[int, int]:
    """(height, width) of the clip, given those of its first frame and of the source whose picture it uses, if any."""
    if source is not None:
        return source_size(*source, variant.pixel_area, variant.size_unit)
    if picture is not None:
        return picture_size(*picture, variant.pixel_area, variant.size_unit)
    return snap_size(*(spec.size or variant.default_size), variant.pixel_area, variant.size_unit)


def _parse(name: str, value: Any) -> Any:
    try:
        return _PARSERS[name](value)
    except (TypeError, ValueError, KeyError, OverflowError):
        raise JobError(f"{reprlib.repr(value)} is not a valid value for {name.replace('_', ' ')}.") from None


def _digest(value: Any) -> str:
    digest = as_text(value).strip().lower()
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise ValueError
    return digest


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, str):
        return parse_size(value)
    height, width = value
    return as_integer(height), as_integer(width)


def _timesteps(value: Any) -> tuple[float, ...] | None:
    if isinstance(value, str):
        return parse_timesteps(value)
    return tuple(as_number(number) for number in value) or None


_PARSERS: Mapping[str, Callable[[Any], Any]] = {
    "prompt": as_text,
    "variant": as_text,
    "image": Path,
    "raw_colours": as_flag,
    "drawing": Drawing.from_dict,
    "size": _pair,
    "steps": as_integer,
    "solver": as_text,
    "shift": as_number,
    "timesteps": _timesteps,
    "seed": as_integer,
    "video_guidance": as_number,
    "audio_guidance": as_number,
    "slg_layer": as_integer,
    "step_cache": as_text,
    "video_negative_prompt": as_text,
    "audio_negative_prompt": as_text,
    "accelerators": parse_stack,
    "adapters": parse_stack,
    "typed_prompt": as_text,
    "source": Path,
    "source_sha256": _digest,
    "keep_picture": parse_spans,
    "keep_sound": parse_spans,
    "strength": as_number,
    "resamples": as_integer,
}
ADAPTER_LISTS = ("accelerators", "adapters")
SOURCE_FIELDS = ("source", "source_sha256", "keep_picture", "keep_sound", "strength", "resamples")
"""What is kept of another clip; none of it is a setting that a preset could have."""
_BEFORE_IT_EXISTED = {"raw_colours": True}
"""Setting -> the value that clips were made with before it existed, if that is not its default."""
_NEGATIVE_PROMPTS = ("video_negative_prompt", "audio_negative_prompt")


def _check(condition: bool, sentence: str) -> None:
    if not condition:
        raise JobError(sentence)


def _check_range(name: str, value: float, low: float, high: float) -> None:
    # NaN fails every comparison.
    _check(low <= value <= high, f"The {name} must be between {low} and {high}, not {reprlib.repr(value)}.")


def _check_timesteps(timesteps: tuple[float, ...], steps: int) -> None:
    _check(
        all(0 < timestep <= MAX_TIMESTEP for timestep in timesteps)
        and all(later < earlier for earlier, later in itertools.pairwise(timesteps)),
        f"The timesteps must decrease from at most {MAX_TIMESTEP:g} towards 0, for example 1000,750,500,250, not "
        f"{reprlib.repr(format_timesteps(timesteps))}.",
    )
    _check(
        len(timesteps) == steps,
        f"There are {len(timesteps)} timesteps but {steps} steps; give only one of the two.",
    )


def _check_stacks(accelerators: Stack, adapters: Stack) -> None:
    # Both lists together: a file listed twice would act with the sum of its strengths.
    parse_stack(accelerators + adapters)


def _check_drawing(spec: ClipSpec) -> None:
    if spec.to_draw is None:
        return
    _check(
        spec.image is None,
        "There is a first frame, so none is drawn; leave out the picture, or what says to draw one.",
    )
    _check(
        not spec.uses_picture,
        "No first frame is drawn for a clip that has its picture from another; leave out one of them.",
    )


def made_steps(steps: int, strength: float) -> int:
    """How many of so many steps are made with a strength; at least one."""
    return max(1, round(strength * steps))


def _check_source(spec: ClipSpec) -> None:
    _check_range("strength", spec.strength, MIN_STRENGTH, 1)
    _check_range("number of resamples", spec.resamples, 0, MAX_RESAMPLES)
    kept = [check_spans(spec.keep_picture), check_spans(spec.keep_sound)]
    if spec.source is None:
        given = spec.source_sha256 is not None or any(kept) or spec.strength < 1 or spec.resamples
        _check(not given, "No source is given of which something could be kept; name a clip, video or sound.")
        return
    _check(
        any(kept) or spec.strength < 1,
        f"Nothing of {spec.source.name} is used; say what is kept of its picture or sound, or choose a strength below "
        "1 to start from it.",
    )
    _check(kept != [ALL, ALL], f"All of {spec.source.name} is kept, so nothing would be made; keep less.")
    _check(any(kept) or not spec.resamples, "Resamples fit a clip to what is kept, but nothing is; set them to 0.")
    _check(
        spec.image is None or not (spec.keep_picture and spec.keep_picture[0].start == 0),
        "The first frame and the kept picture both say what the clip begins with; leave out one of them.",
    )


def _check_prompts(spec: ClipSpec) -> None:
    _check(bool(spec.prompt.strip()), "The prompt is empty; write what the clip should show and sound like.")
    for name in ("prompt", "typed_prompt", *_NEGATIVE_PROMPTS):
        length = len(getattr(spec, name))
        _check(
            length <= MAX_PROMPT_LENGTH,
            f"The {name.replace('_', ' ')} has {length} characters; shorten it to {MAX_PROMPT_LENGTH}.",
        )
