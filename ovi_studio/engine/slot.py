"""`EngineSlot`: the identity of one of several engines of a studio. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ovi_studio.queue.model import FIRST_ENGINE

_FARM = "farm"
_MACHINE = "farm."


@dataclass(frozen=True)
class EngineSlot:
    """A slot for one engine at a time."""

    name: str = FIRST_ENGINE
    """The prefix of its engines' names in the store."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Additional environment variables of its engines, which select the GPU."""

    @classmethod
    def numbered(cls, number: int, environment: Mapping[str, str]) -> "EngineSlot":
        """Return the slot with a number, from 0."""
        return cls(f"{FIRST_ENGINE}{number}" if number else FIRST_ENGINE, environment)

    @classmethod
    def of(cls, owner: str) -> "EngineSlot":
        """Return the slot of an engine by its name; the first slot for a name that a person chose."""
        name = owner.rpartition("-")[0]
        known = name == _FARM or name.startswith(_MACHINE) or name.removeprefix(FIRST_ENGINE).isdigit()
        return cls(name) if known else cls()

    @classmethod
    def of_farm(cls) -> "EngineSlot":
        """Return the slot of the process that looks after other machines and makes no clips itself."""
        return cls(_FARM)

    @classmethod
    def of_machine(cls, name: str) -> "EngineSlot":
        """Return the slot of another machine's engine."""
        return cls(_MACHINE + name)

    def owner(self, suffix: str) -> str:
        """Return the name of an engine in this slot; the suffix, without `-`, tells it from those before it."""
        return f"{self.name}-{suffix}"

    @property
    def title(self) -> str:
        """What people call it, as in `Engine 2`; they count from 1. A machine has its own name."""
        if self.name == _FARM:
            return "Other machines"
        if self.elsewhere:
            return self.name.removeprefix(_MACHINE)
        return f"Engine {self.number + 1}"

    @property
    def number(self) -> int:
        """The number of an engine of this machine, from 0."""
        return int(self.name.removeprefix(FIRST_ENGINE) or 0)

    @property
    def elsewhere(self) -> bool:
        """Whether its engines make clips on another machine."""
        return self.name.startswith(_MACHINE)

    @property
    def makes_clips(self) -> bool:
        """Whether its engines take jobs."""
        return self.name != _FARM

    @property
    def first(self) -> bool:
        """Whether this is the first slot, whose supervisor holds the web process's lock and reports its condition."""
        return self.name == FIRST_ENGINE

    def owns(self, owner: str) -> bool:
        """Whether the engine with this name belongs to this slot."""
        return EngineSlot.of(owner).name == self.name

    def file(self, path: Path) -> Path:
        """Return this slot's variant of a path; the first slot uses the path itself."""
        return path if self.first else path.with_stem(f"{path.stem}-{self.name}")
