"""From what is asked for to the clips that it stands for: one way for page, API, tables, official YAML, command line.

A request is expanded in one order: its pattern to prompts (`prompt_patterns`), its seed mode and count to seeds, its
other fields to a `ClipSpec`, its aspect ratio to a size; each prompt's tags then add adapters. The prompts are checked
on the way (`prompt_check`), which warns and refuses nothing. Rows of a file go the same way; a bad one is named with
its line, and the others are used.
"""

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from ovi_studio.core.errors import JobError
from ovi_studio.core.prompt_check import prompt_warnings
from ovi_studio.core.prompt_patterns import WILDCARDS_DIRECTORY, expand_prompt, pattern_warnings
from ovi_studio.core.sizes import ASPECT_RATIOS, OWN_SIZE, named_sizes, snap_size
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.variants import Variant

MAX_QUEUED = 10_000
"""Clips that are queued at once, by the page or the API."""
MAX_RUN = 100_000
"""Clips that one command makes."""
SEED_RANGE = 2**31
"""Random seeds are below it: short enough to be read out."""
_ANY_PROMPT = "any"
"""Stands for each of a request's prompts while the rest of it is checked."""


class SeedMode(StrEnum):
    """Where the seed of the next clip comes from."""

    RANDOM = "random"
    FIXED = "fixed"
    NEXT = "next"
    """The one in the field, which then moves on."""


@dataclass(frozen=True)
class Request:
    """What somebody asks for; one of them may stand for many clips. Raises `JobError` for a bad count."""

    values: Mapping[str, Any]
    """Fields of `ClipSpec`, unparsed; the prompt may be a pattern. Without a seed, a mode that draws none has the
    default of `ClipSpec`."""
    ratio: str | None = None
    """A name of `named_sizes`; not looked at with a first frame or a size."""
    seed_mode: SeedMode = SeedMode.RANDOM
    count: int = 1
    """Seeds for each prompt: as many random ones, or those that follow the given one."""
    wildcards: Path = WILDCARDS_DIRECTORY

    def __post_init__(self) -> None:
        if self.count < 1:
            raise JobError(f"The count must be 1 or more, not {self.count}.")


@dataclass(frozen=True)
class Context:
    """What requests are resolved against."""

    find_variant: Callable[[str], Variant]
    """Raises `JobError` for a name that no variant has."""
    check_picture: Callable[[Path], object] | None = None
    """Raises `JobError` for a file that cannot be a first frame; None: whoever makes the clip finds out."""
    max_clips: int = MAX_QUEUED


@dataclass(frozen=True)
class Row:
    """A row of a file."""

    line: int
    """In the file, from 1; where the row begins if it spans several."""
    request: Request | JobError
    """What it asks for, or why that cannot be known."""


@dataclass(frozen=True)
class BadRow:
    """A row that makes no clip."""

    line: int
    """In the file, from 1; where the row begins if it spans several."""
    reason: str
    """A sentence that says what to do."""


@dataclass(frozen=True)
class PromptWarning:
    """What people should know about a prompt; the clip is made all the same."""

    prompt: str
    sentences: tuple[str, ...]
    line: int | None = None
    """The first row of the file that has this prompt."""

    def __str__(self) -> str:
        where = "" if self.line is None else f"line {self.line}, "
        shown = " ".join(self.prompt.split())
        return f"{where}“{shown if len(shown) <= 60 else shown[:59] + '…'}”: {' '.join(self.sentences)}"


@dataclass(frozen=True)
class Expansion:
    """The clips that requests stand for."""

    specs: tuple[ClipSpec, ...]
    """Request by request, in each prompt by prompt, and for each prompt its seeds."""
    warnings: tuple[PromptWarning, ...] = ()
    """One for each prompt that has something to warn about."""
    bad_rows: tuple[BadRow, ...] = ()


def expand_request(request: Request, context: Context) -> Expansion:
    """The clips of a request, seeds drawn; raises `JobError` for what cannot be made."""
    prompts = pattern_prompts(request)
    if (number := len(prompts) * request.count) > context.max_clips:
        raise JobError(f"That makes {number} clips; the most at once is {context.max_clips}, so split it.")
    base = base_spec(replace(request, values={**request.values, "prompt": _ANY_PROMPT}), context)
    seeds = _seeds(request, base.seed)
    # Each prompt has tags of its own, also when they come from different alternatives of one pattern.
    tagged = [base.with_settings({"prompt": prompt}) for prompt in prompts]
    specs = tuple(replace(spec, seed=seed) for spec in tagged for seed in seeds)
    return Expansion(specs, tuple(_warnings(request, tagged, context.find_variant(base.variant))))


def expand_rows(rows: Iterable[Row], context: Context) -> Expansion:
    """The clips of all rows that make any; the others are in `bad_rows`. Raises `JobError` for too many clips."""
    specs: list[ClipSpec] = []
    bad_rows: list[BadRow] = []
    warnings: dict[tuple[str, tuple[str, ...]], PromptWarning] = {}
    for row in rows:
        try:
            if isinstance(row.request, JobError):
                raise row.request
            found = expand_request(row.request, context)
        except JobError as error:
            bad_rows.append(BadRow(row.line, str(error)))
        else:
            specs += found.specs
            for warning in found.warnings:
                warnings.setdefault((warning.prompt, warning.sentences), replace(warning, line=row.line))
        if len(specs) + len(bad_rows) > context.max_clips:
            raise JobError(f"This table makes more than {context.max_clips} clips (line {row.line}); split it.")
    return Expansion(tuple(specs), tuple(warnings.values()), tuple(bad_rows))


def pattern_prompts(request: Request) -> list[str]:
    """The prompts that a request stands for, in their order; raises `JobError` for a pattern that cannot be."""
    return expand_prompt(_pattern(request), request.wildcards)


def base_spec(request: Request, context: Context) -> ClipSpec:
    """The request as one clip, its prompt not expanded and no seed drawn; raises `JobError`."""
    drawn = request.seed_mode is SeedMode.RANDOM
    spec = ClipSpec.from_dict({name: value for name, value in request.values.items() if not (drawn and name == "seed")})
    variant = context.find_variant(spec.variant)
    if spec.image is not None and context.check_picture is not None:
        context.check_picture(spec.image)
    if request.ratio is None or spec.image is not None or spec.size is not None:
        return spec
    return replace(spec, size=_ratio_size(request.ratio, variant))


def draw_seeds(count: int) -> list[int]:
    """Random seeds."""
    return [random.randrange(SEED_RANGE) for _ in range(count)]


def _pattern(request: Request) -> str:
    return str(request.values.get("prompt") or "")


def _seeds(request: Request, first: int) -> list[int]:
    if request.seed_mode is SeedMode.RANDOM:
        return draw_seeds(request.count)
    return list(range(first, first + request.count))


def _ratio_size(ratio: str, variant: Variant) -> tuple[int, int]:
    if ratio == OWN_SIZE:  # chosen with another variant; the default size of this one may have the name of a ratio
        return snap_size(*variant.default_size, variant.pixel_area)
    sizes = named_sizes(variant.default_size, variant.pixel_area)
    if ratio not in sizes:
        raise JobError(f"Aspect ratio {ratio!r} is not known; choose one of {', '.join(ASPECT_RATIOS)}.")
    return sizes[ratio]


def _warnings(request: Request, specs: Iterable[ClipSpec], variant: Variant) -> list[PromptWarning]:
    """About the pattern as it was written, then about each of its prompts."""
    pattern = _pattern(request)
    found = [PromptWarning(pattern, pattern_warnings(pattern))]
    for prompt in dict.fromkeys(spec.prompt for spec in specs):
        found.append(PromptWarning(prompt, prompt_warnings(prompt, variant.audio_tag, variant.seconds)))
    return [warning for warning in found if warning.sentences]
