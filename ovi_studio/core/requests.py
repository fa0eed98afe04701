"""Expansion of requests to clip specs, shared by the page, the API, tables, official YAML files and the command line.

The order is fixed: the pattern becomes prompts (`prompt_patterns`), seed mode and count become seeds, the other fields
a `ClipSpec`, the aspect ratio a size; each prompt's tags then add adapters. The prompts are checked (`prompt_check`),
which gives warnings but rejects nothing. Rows of a file are expanded in the same way; invalid rows are reported with
their line numbers, and the others are used.
"""

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from ovi_studio.core.errors import JobError
from ovi_studio.core.prompt_patterns import WILDCARDS_DIRECTORY, expand_prompt, pattern_warnings
from ovi_studio.core.prompt_repair import prompt_warnings
from ovi_studio.core.sizes import ASPECT_RATIOS, OWN_SIZE, named_sizes, snap_size
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.variants import Variant

MAX_QUEUED = 10_000
"""Clips that the page or the API can queue at once."""
MAX_RUN = 100_000
"""Clips that one command can make."""
SEED_RANGE = 2**31
"""Random seeds are below this value, so that they are short enough to read aloud."""
RANDOM_SEED = -1
_ANY_PROMPT = "any"
"""Placeholder for the prompt while the rest of a request is checked."""


class SeedMode(StrEnum):
    """Where the seed of the next clip comes from."""

    RANDOM = "random"
    FIXED = "fixed"
    NEXT = "next"
    """The seed in the field, which is then incremented."""


@dataclass(frozen=True)
class Request:
    """A request, which may stand for many clips. Raises `JobError` for an invalid count."""

    values: Mapping[str, Any]
    """Fields of `ClipSpec`, unparsed; the prompt may be a pattern. Modes other than random use the default seed of
    `ClipSpec` if none is given."""
    ratio: str | None = None
    """A name of `named_sizes`; ignored if there is a first frame or a size."""
    seed_mode: SeedMode = SeedMode.RANDOM
    count: int = 1
    """Number of seeds for each prompt: random ones, or consecutive ones from the given seed on."""
    wildcards: Path = WILDCARDS_DIRECTORY

    def __post_init__(self) -> None:
        if self.count < 1:
            raise JobError(f"The count must be 1 or more, not {self.count}.")


@dataclass(frozen=True)
class Context:
    """What requests are resolved against."""

    find_variant: Callable[[str], Variant]
    """Raises `JobError` for an unknown name."""
    check_picture: Callable[[ClipSpec], Iterable[str]] | None = None
    """Returns notes about a clip's first frame; raises `JobError` for a file that cannot be one. None defers the check
    until the clip is made."""
    max_clips: int = MAX_QUEUED


@dataclass(frozen=True)
class Row:
    """A row of a file."""

    line: int
    """Line number in the file, from 1; the first line if the row spans several."""
    request: Request | JobError
    """The request, or the reason why the row cannot be parsed."""


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be turned into clips."""

    line: int
    """Line number in the file, from 1; the first line if the row spans several."""
    reason: str
    """A sentence that says what to do."""


@dataclass(frozen=True)
class PromptWarning:
    """Warnings about a prompt, which do not prevent the clip from being made."""

    prompt: str
    sentences: tuple[str, ...]
    line: int | None = None
    """The line of the first row with this prompt."""

    def __str__(self) -> str:
        where = "" if self.line is None else f"line {self.line}, "
        shown = " ".join(self.prompt.split())
        return f"{where}“{shown if len(shown) <= 60 else shown[:59] + '…'}”: {' '.join(self.sentences)}"


@dataclass(frozen=True)
class Expansion:
    """The result of expanding requests."""

    specs: tuple[ClipSpec, ...]
    """Ordered by request, then prompt, then seed."""
    warnings: tuple[PromptWarning, ...] = ()
    """One entry for each prompt that has warnings."""
    bad_rows: tuple[BadRow, ...] = ()
    notes: tuple[str, ...] = ()
    """Sentences about how a table or a picture was understood."""


def expand_request(request: Request, context: Context) -> Expansion:
    """The clips of a request, with random seeds drawn; raises `JobError` if they cannot be made."""
    request = _with_seed_mode(request)
    prompts = pattern_prompts(request)
    if (number := len(prompts) * request.count) > context.max_clips:
        raise JobError(f"That makes {number} clips; the maximum is {context.max_clips}, so split the request.")
    base = base_spec(replace(request, values={**request.values, "prompt": _ANY_PROMPT}), context)
    notes = () if base.image is None or context.check_picture is None else tuple(context.check_picture(base))
    seeds = _seeds(request, base.seed)
    # Each prompt has its own tags, since alternatives of a pattern can contain different ones.
    tagged = [base.with_settings({"prompt": prompt}) for prompt in prompts]
    specs = tuple(replace(spec, seed=seed) for spec in tagged for seed in seeds)
    return Expansion(specs, tuple(_warnings(request, tagged, context.find_variant(base.variant))), notes=notes)


def expand_rows(rows: Iterable[Row], context: Context, notes: Iterable[str] = ()) -> Expansion:
    """The clips of all valid rows; the others are in `bad_rows`. Raises `JobError` for too many clips.

    Args:
        notes: about the file; those about its pictures are added.
    """
    specs: list[ClipSpec] = []
    bad_rows: list[BadRow] = []
    warnings: dict[tuple[str, tuple[str, ...]], PromptWarning] = {}
    all_notes = dict.fromkeys(notes)
    for row in rows:
        try:
            if isinstance(row.request, JobError):
                raise row.request
            found = expand_request(row.request, context)
        except JobError as error:
            bad_rows.append(BadRow(row.line, str(error)))
        else:
            specs += found.specs
            all_notes |= dict.fromkeys(found.notes)
            for warning in found.warnings:
                warnings.setdefault((warning.prompt, warning.sentences), replace(warning, line=row.line))
        if len(specs) + len(bad_rows) > context.max_clips:
            raise JobError(f"This table makes more than {context.max_clips} clips (line {row.line}); split it.")
    return Expansion(tuple(specs), tuple(warnings.values()), tuple(bad_rows), tuple(all_notes))


def pattern_prompts(request: Request) -> list[str]:
    """The prompts that a request stands for, in order; raises `JobError` for an invalid pattern."""
    return expand_prompt(_pattern(request), request.wildcards)


def base_spec(request: Request, context: Context) -> ClipSpec:
    """The request as one clip, without expanding the prompt, drawing a seed or reading the picture.

    Raises `JobError`.
    """
    drawn = _with_seed_mode(request).seed_mode is SeedMode.RANDOM
    spec = ClipSpec.from_dict({name: value for name, value in request.values.items() if not (drawn and name == "seed")})
    variant = context.find_variant(spec.variant)
    if request.ratio is None or spec.image is not None or spec.size is not None:
        return spec
    return replace(spec, size=_ratio_size(request.ratio, variant))


def draw_seeds(count: int) -> list[int]:
    """`count` random seeds."""
    return [random.randrange(SEED_RANGE) for _ in range(count)]


def _with_seed_mode(request: Request) -> Request:
    """The seed -1 asks for a random one, as in many programs."""
    seed = request.values.get("seed")
    asked = (isinstance(seed, int) and seed == RANDOM_SEED) or (isinstance(seed, str) and seed.strip() == "-1")
    return replace(request, seed_mode=SeedMode.RANDOM) if asked else request


def _pattern(request: Request) -> str:
    return str(request.values.get("prompt") or "")


def _seeds(request: Request, first: int) -> list[int]:
    if request.seed_mode is SeedMode.RANDOM:
        return draw_seeds(request.count)
    return list(range(first, first + request.count))


def _ratio_size(ratio: str, variant: Variant) -> tuple[int, int]:
    if ratio == OWN_SIZE:  # chosen for another variant; the default size of this one may be a named ratio
        return snap_size(*variant.default_size, variant.pixel_area, variant.size_unit)
    sizes = named_sizes(variant.default_size, variant.pixel_area, variant.size_unit)
    if ratio not in sizes:
        raise JobError(f"Unknown aspect ratio {ratio!r}; choose one of {', '.join(ASPECT_RATIOS)}.")
    return sizes[ratio]


def _warnings(request: Request, specs: Iterable[ClipSpec], variant: Variant) -> list[PromptWarning]:
    """Warnings about the pattern itself, then about each of its prompts."""
    pattern = _pattern(request)
    found = [PromptWarning(pattern, pattern_warnings(pattern))]
    for prompt in dict.fromkeys(spec.prompt for spec in specs):
        found.append(PromptWarning(prompt, prompt_warnings(prompt, variant.audio_tag, variant.seconds)))
    return [warning for warning in found if warning.sentences]
