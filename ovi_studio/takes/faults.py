"""`Fault`: something wrong with a take that can be measured."""

from dataclasses import dataclass
from enum import StrEnum


class FaultKind(StrEnum):
    """What is wrong."""

    NOT_FINITE = "not finite"
    CLIPPED = "clipped"
    SILENT = "silent"
    BLACK = "black"
    FROZEN = "frozen"
    JUMP = "jump"


@dataclass(frozen=True)
class Fault:
    """A fault, and a sentence about it for people."""

    kind: FaultKind
    text: str
