"""Many prompts from one: alternatives in braces and words from lists, expanded before anything is queued.

`{red|blue} car` is two prompts; several groups give every combination, the last one turning fastest. `__weather__` is
every line of `presets/wildcards/weather.txt`, and is a group as well. An alternative may be empty and may hold a
wildcard, but no group. `\\{`, `\\}` and `\\|` are the characters themselves, `\\_` an underscore that begins no
wildcard. Nothing is drawn at random: what is shown before queueing is what is queued.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ovi_studio.core.errors import JobError
from ovi_studio.core.shipped import PRESETS
from ovi_studio.core.spec import MAX_SEED, ClipSpec

MAX_CLIPS = 10_000
WILDCARDS_DIRECTORY = PRESETS / "wildcards"
_MAX_LIST_SIZE = 2**20
"""Bytes of a wildcard's file."""

_TOKEN = re.compile(r"\\(?P<escaped>[{}|_\\])|__(?P<wildcard>[A-Za-z0-9]+(?:[-_][A-Za-z0-9]+)*)__|(?P<sign>[{}|])")
_SEED_RANGE = re.compile(r"(\d+)\s*-\s*(\d+)")

Lookup = Callable[[str], Sequence[str]]
"""The lines of a wildcard; raises `JobError` for an unknown one."""


def expand_prompt(prompt: str, wildcards: Path = WILDCARDS_DIRECTORY) -> list[str]:
    """Every prompt that a pattern stands for, in order and without repetition.

    Raises `JobError` for a brace that is not closed, a group within a group, an unknown wildcard, or more than
    `MAX_CLIPS` prompts.
    """
    parts = _parse(prompt, lambda name: read_wildcard(name, wildcards))
    _check_number(math.prod(len(part) for part in parts), "prompts")
    return list(dict.fromkeys("".join(choice) for choice in itertools.product(*parts)))


def expand_spec(
    spec: ClipSpec, seeds: Sequence[int] | None = None, wildcards: Path = WILDCARDS_DIRECTORY
) -> list[ClipSpec]:
    """A spec for each prompt of its pattern and each seed, prompt by prompt; its own seed unless others are given.

    Raises `JobError` as `expand_prompt` does, also for more than `MAX_CLIPS` specs.
    """
    prompts = expand_prompt(spec.prompt, wildcards)
    seeds = [spec.seed] if seeds is None else seeds
    _check_number(len(prompts) * len(seeds), "clips")
    return [replace(spec, prompt=prompt, seed=seed) for prompt in prompts for seed in seeds]


def following_seeds(first: int, count: int) -> list[int]:
    """`count` seeds from `first` on; raises `JobError` if there are none or too many."""
    if count < 1:
        raise JobError(f"The count must be 1 or more, not {count}.")
    _check_number(count, "clips")
    return _checked_seeds(range(first, first + count))


def parse_seeds(text: str) -> list[int]:
    """Seeds as people write them: `7`, `1, 5, 9`, `100-119`, or a mix; raises `JobError` for anything else."""
    seeds: list[int] = []
    for item in filter(None, re.split(r"[,;\s]+", re.sub(r"\s*-\s*", "-", text.strip()))):
        seeds += _seeds_of(item)
        _check_number(len(seeds), "seeds")
    if not seeds:
        raise JobError("There is no seed; write one, several with commas between, or a range such as 100-119.")
    return _checked_seeds(dict.fromkeys(seeds))


def wildcard_names(wildcards: Path = WILDCARDS_DIRECTORY) -> list[str]:
    """The wildcards that there are, without their underscores."""
    return sorted(path.stem for path in wildcards.glob("*.txt"))


def read_wildcard(name: str, wildcards: Path = WILDCARDS_DIRECTORY) -> list[str]:
    """The lines of a wildcard; empty ones and those that begin with `#` do not count."""
    known = wildcard_names(wildcards)
    if name not in known:  # and so no path can be built from it
        listed = ", ".join(f"__{other}__" for other in known) or "none"
        raise JobError(f"There is no wildcard __{name}__; known are: {listed}. Write \\_ for a plain underscore.")
    path = wildcards / f"{name}.txt"
    try:
        with path.open("rb") as file:
            lines = file.read(_MAX_LIST_SIZE).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise JobError(f"The wildcard file {path} cannot be read; save it as UTF-8 text.") from error
    found = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not found:
        raise JobError(f"The wildcard file {path} has no line; write one alternative on each.")
    return found


def _parse(prompt: str, lookup: Lookup) -> list[list[str]]:
    """The prompt as a sequence of choices; a piece of plain text is a choice of one."""
    parts: list[list[str]] = [[""]]
    group: list[list[list[str]]] | None = None  # alternatives, each a sequence of choices
    for text, kind, value in _tokens(prompt):
        current = parts if group is None else group[-1]
        current.append([text])
        if kind == "escaped":
            current.append([value])
        elif kind == "wildcard":
            current.append(list(lookup(value)))
        elif value == "{":
            if group is not None:
                raise JobError(f"A group in braces stands within another in {_near(prompt)}; write \\{{ for a brace.")
            group = [[]]
        elif value == "|" and group is not None:
            group.append([])
        elif value == "|":
            current.append(["|"])
        elif value == "}":
            if group is None:
                raise JobError(f"A closing brace has no opening one in {_near(prompt)}; write \\}} for a brace.")
            parts.append(_alternatives(group))
            group = None
    if group is not None:
        raise JobError(f"An opening brace has no closing one in {_near(prompt)}; write \\{{ for a brace.")
    return parts


def _tokens(prompt: str) -> Iterable[tuple[str, str, str]]:
    """(text before, kind, value), with a last one that is plain text only."""
    end = 0
    for match in _TOKEN.finditer(prompt):
        kind = str(match.lastgroup)
        yield prompt[end : match.start()], kind, match[kind]
        end = match.end()
    yield prompt[end:], "end", ""


def _alternatives(group: list[list[list[str]]]) -> list[str]:
    for choices in group:
        _check_number(math.prod(len(choice) for choice in choices), "prompts")
    return ["".join(choice) for choices in group for choice in itertools.product(*choices)]


def _near(prompt: str) -> str:
    return repr(prompt if len(prompt) <= 60 else prompt[:57] + "...")


def _seeds_of(item: str) -> Iterable[int]:
    if match := _SEED_RANGE.fullmatch(item):
        if max(len(match[1]), len(match[2])) > 19:
            raise JobError(f"Seeds lie between 0 and {MAX_SEED}.")
        first, last = int(match[1]), int(match[2])
        if last < first:
            raise JobError(f"The range of seeds {item} runs backwards; write {last}-{first}.")
        _check_number(last - first + 1, "seeds")
        return range(first, last + 1)
    if not item.isascii() or not item.isdigit() or len(item) > 19:
        raise JobError(f"{item[:30]!r} is no seed; write numbers with commas between, or a range such as 100-119.")
    return [int(item)]


def _checked_seeds(seeds: Iterable[int]) -> list[int]:
    found = list(seeds)
    if found[0] < 0 or max(found) > MAX_SEED:
        raise JobError(f"Seeds lie between 0 and {MAX_SEED}.")
    return found


def _check_number(number: int, what: str) -> None:
    if number > MAX_CLIPS:
        raise JobError(f"That makes {number} {what}; the most at once is {MAX_CLIPS}, so split it.")
