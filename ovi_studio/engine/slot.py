"""`EngineSlot`: the place of one engine beside others. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_FIRST = "engine"


@dataclass(frozen=True)
class EngineSlot:
    """Where one engine at a time works."""

    name: str = _FIRST
    """What its engines' names in the store begin with."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What their processes have in addition: which GPU they may see."""

    @classmethod
    def numbered(cls, number: int, environment: Mapping[str, str]) -> "EngineSlot":
        """From 0."""
        return cls(f"{_FIRST}{number}" if number else _FIRST, environment)

    @classmethod
    def of(cls, owner: str) -> "EngineSlot":
        """The slot of an engine; one with a name that a person gave it has the first."""
        name = owner.rpartition("-")[0]
        return cls(name) if name.removeprefix(_FIRST).isdigit() else cls()

    @property
    def first(self) -> bool:
        """Whether its supervisor speaks for the web process: it holds the lock, and its condition is the page's."""
        return self.name == _FIRST

    def owns(self, owner: str) -> bool:
        """Whether the engine with this name belongs here."""
        return EngineSlot.of(owner).name == self.name

    def file(self, path: Path) -> Path:
        """This slot's own file beside that of the first."""
        return path if self.first else path.with_stem(f"{path.stem}-{self.name}")
