"""What the library hands out and what it is asked for. Nothing here knows files or SQL."""

import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec

Order = Literal["newest", "oldest"]

MAX_PAGE = 200
"""Clips of one page."""
_MAX_QUERY_LENGTH = 500
"""Characters; the rest of a longer one is not looked at."""


@dataclass(frozen=True)
class LibraryClip:
    """A clip in the output folder as it was when the library looked last."""

    id: str
    """32 hexadecimal digits; says nothing about where the clip is, and changes if the file is renamed."""
    name: str
    """The file's name, without its folder; people chose parts of it, so it is text to be escaped."""
    spec: ClipSpec
    """For display: its `image` is only the name of the first frame. `Library.settings` gives one that can be queued."""
    size: tuple[int, int]
    """(height, width) of the picture."""
    seconds: float
    made: float
    """Seconds since 1970, by the file's time."""
    poster: Path | None
    """A JPEG in the output folder; None if it is missing and cannot be written."""
    favourite: bool


@dataclass(frozen=True)
class Query:
    """Which clips to show. Raises `JobError` if a value is out of its limits."""

    words: str = ""
    """All of them stand in the prompt, in any order; case and accents do not count, and parts of words do."""
    variant: str | None = None
    favourites_only: bool = False
    with_picture: bool | None = None
    """Only those with a first frame, or only those without."""
    order: Order = "newest"
    offset: int = 0
    limit: int = 48

    def __post_init__(self) -> None:
        if self.order not in ("newest", "oldest"):
            raise JobError("Clips can be sorted newest or oldest first.")
        if not 1 <= self.limit <= MAX_PAGE or not 0 <= self.offset < 2**31:
            raise JobError(f"A page holds 1 to {MAX_PAGE} clips and begins at 0 or later.")

    @property
    def folded_words(self) -> list[str]:
        """The words as they are compared."""
        return fold(self.words[:_MAX_QUERY_LENGTH]).split()


@dataclass(frozen=True)
class Page:
    """A part of the clips that a query found."""

    clips: tuple[LibraryClip, ...]
    total: int
    """How many there are on all pages."""


@dataclass(frozen=True)
class TrashedClip:
    """A clip in the trash."""

    id: str
    name: str
    prompt: str
    """Empty if the file cannot be read any more."""
    poster: Path | None
    """Lies in the state folder, which is not served."""
    trashed: float
    """Seconds since 1970."""


def fold(text: str) -> str:
    """Text without case and accents, for comparison."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in decomposed if not unicodedata.combining(c)).casefold()
