"""The library's queries and results. Independent of files and SQL."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.library.search import Term, parse_search

Order = Literal["newest", "oldest"]

MAX_PAGE = 200
"""Maximum number of clips on a page."""


@dataclass(frozen=True)
class LibraryClip:
    """A clip in the output folder, as of the library's last refresh."""

    id: str
    """32 hexadecimal digits; does not reveal the path, and changes if the file is renamed."""
    name: str
    """File name without folder; parts of it come from the user, so it must be escaped."""
    spec: ClipSpec
    """For display: its `image` is only the first frame's name. `Library.settings` returns a spec that can be queued."""
    size: tuple[int, int]
    """(height, width) of the picture."""
    seconds: float
    made: float
    """Modification time of the file, in seconds since 1970."""
    poster: Path | None
    """A JPEG in the output folder; None if it is missing and cannot be created."""
    favourite: bool
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Query:
    """Which clips to show. Raises `JobError` if a value exceeds its limits."""

    words: str = ""
    """A search as `library.search` describes it."""
    variant: str | None = None
    favourites_only: bool = False
    with_picture: bool | None = None
    """True: only clips with a first frame; False: only clips without one; None: both."""
    order: Order = "newest"
    offset: int = 0
    limit: int = 48

    def __post_init__(self) -> None:
        if self.order not in ("newest", "oldest"):
            raise JobError("Clips can be sorted newest or oldest first.")
        if not 1 <= self.limit <= MAX_PAGE or not 0 <= self.offset < 2**31:
            raise JobError(f"A page contains 1 to {MAX_PAGE} clips and starts at 0 or later.")

    @property
    def terms(self) -> tuple[Term, ...]:
        """The conditions of the search; raises `JobError` for one that cannot be meant."""
        return parse_search(self.words)


@dataclass(frozen=True)
class Page:
    """One page of the results of a query."""

    clips: tuple[LibraryClip, ...]
    total: int
    """The number of clips on all pages."""


@dataclass(frozen=True)
class TrashedClip:
    """A clip in the trash."""

    id: str
    name: str
    prompt: str
    """Empty if the file is no longer readable."""
    poster: Path | None
    """A file in the state folder, which is not served to browsers."""
    trashed: float
    """Seconds since 1970."""
