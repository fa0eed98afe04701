"""What a command of the program has printed, and the clips that it has made."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from clip_reading import read_frames, read_samples

PROMPT = "a red ball bounces <AUDCAP>a deep thump<ENDAUDCAP>"


@dataclass(frozen=True)
class Ended:
    """The result of a command: its exit status and the lines it printed."""

    status: int
    out: list[str]
    err: str

    @property
    def paths(self) -> list[Path]:
        return [Path(line) for line in self.out]

    @property
    def complaints(self) -> list[str]:
        """The lines of stderr without progress bars, which overwrite themselves within a line."""
        parts = re.split(r"[\r\n]", self.err)
        return [part for part in parts if part.strip() and not re.search(r"step \d+ of \d+", part)]


Run = Callable[..., Ended]


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def assert_same_clip(one: Path, other: Path) -> None:
    assert np.array_equal(read_frames(one), read_frames(other))
    assert np.array_equal(read_samples(one), read_samples(other))
