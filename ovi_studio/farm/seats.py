"""`Seat`: a place of the cluster where one clip at a time is made. Imports no ray."""

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ovi_studio.farm.machine import NAME_LABEL, RANKS_LABEL


@dataclass(frozen=True)
class Seat:
    """The GPUs of a node that share a clip, mostly one, or the processor of a node without any."""

    node: str
    """Ray's id of the node; a machine that joins again has another."""
    number: int
    """Which one of its node's, from 0."""
    name: str
    gpus: int
    ranks: int = 1
    """How many processes share a clip: as many as GPUs, if there are any."""


def seats(nodes: Sequence[dict[str, Any]], known: Collection[Seat] = ()) -> list[Seat]:
    """Return the seats of the cluster's nodes (`ray.nodes()`); a node without resources, such as the head, has none.

    Args:
        known: those that were returned before, which keep their names whatever else comes and goes.
    """
    places = {(place.node, place.number): place for node in nodes if node["Alive"] for place in _places(node)}
    names = {(seat.node, seat.number): seat.name for seat in known if (seat.node, seat.number) in places}
    for where, place in places.items():
        if where not in names:
            names[where] = _free_name(place.name, names.values())
    return [replace(place, name=names[where]) for where, place in places.items()]


def _free_name(name: str, taken: Collection[str]) -> str:
    if name not in taken:
        return name
    return next(numbered for number in itertools.count(2) if (numbered := f"{name}.{number}") not in taken)


def _places(node: dict[str, Any]) -> Iterator[Seat]:
    """Yield the seats of a node, all with its name."""
    resources, labels = node["Resources"], node["Labels"]
    name = labels.get(NAME_LABEL) or str(node["NodeManagerHostname"]).replace(".", "-")
    ranks = int(labels.get(RANKS_LABEL, 1))
    gpus = int(resources.get("GPU", 0))
    for number in range(gpus // ranks if gpus else resources.get("CPU", 0) >= 1):
        yield Seat(node["NodeID"], number, name, ranks if gpus else 0, ranks)
