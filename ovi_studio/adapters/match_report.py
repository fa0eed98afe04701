"""How well an adapter file fits a model, for people. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ovi_studio.core.towers import Tower


class UnusedTensor(NamedTuple):
    """A tensor of the file that is not used."""

    tensor: str
    reason: str


@dataclass(frozen=True)
class TowerMatch:
    """What a file changes in one tower."""

    layers: int
    """Linear layers that the file changes."""
    of: int
    """Linear layers of the tower."""
    others: int
    """Biases, norms, modulations and convolutions that the file changes."""


@dataclass(frozen=True)
class MatchReport:
    """How well a file fits the model."""

    towers: Mapping[Tower, TowerMatch]
    matched: int
    """Layers of the file that were found in the model."""
    layers: int
    """Layers that the file names."""
    unused: tuple[UnusedTensor, ...]
    kinds: tuple[str, ...]
    """Titles of the file's formats, such as LoRA, DoRA, difference."""
    ranks: tuple[int, ...]
    scales: tuple[float, ...] = ()
    """The different scales of its changes, as far as known: alphas among the tensors are known once they were read."""
    idle: bool = False
    """Whether all its changes are zero, as far as known."""
    notes: tuple[str, ...] = ()
    """What was assumed to read the file, as sentences."""

    @property
    def complete(self) -> bool:
        return not self.unused

    def summary(self) -> str:
        """Return one line for a card: `312 of 312 layers matched (video 300 of 366, audio 0 of 366)`."""
        towers = ", ".join(f"{tower} {match.layers} of {match.of}" for tower, match in self.towers.items())
        return f"{self.matched} of {self.layers} layers matched ({towers})"

    def warning(self) -> str | None:
        """Return sentences about unused tensors, assumptions, and an adapter without effect; None without any."""
        sentences = list(self.notes)
        if self.idle:
            sentences.append("It changes nothing: all of its changes are zero; train or download it again.")
        if self.unused:
            reasons = {item.reason: item.tensor for item in reversed(self.unused)}
            examples = "; ".join(f"{short_name(tensor)} {reason}" for reason, tensor in list(reasons.items())[:4])
            are = "is" if len(self.unused) == 1 else "are"
            sentences.append(f"{len(self.unused)} of the file's tensors {are} not used: {examples}.")
        return " ".join(sentences) or None


def short_name(name: str) -> str:
    """Shorten a name from a file for use in a sentence."""
    return name if len(name) <= 120 else name[:117] + "..."
