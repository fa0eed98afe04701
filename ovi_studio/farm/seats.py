"""`Seat`: a place of the cluster where one clip at a time is made. Imports no ray."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ovi_studio.farm.machine import NAME_LABEL, RANKS_LABEL


@dataclass(frozen=True)
class Seat:
    """The GPUs of a node that share a clip, mostly one, or the processor of a node without any."""

    node: str
    """Ray's id of the node; a machine that joins again has another."""
    name: str
    gpus: int
    ranks: int = 1
    """How many processes share a clip: as many as GPUs, if there are any."""


def seats(nodes: Sequence[dict[str, Any]]) -> Iterator[Seat]:
    """Yield the seats of the cluster's nodes (`ray.nodes()`); a node without resources, such as the head, has none."""
    taken: dict[str, int] = {}
    for node in sorted(nodes, key=lambda node: str(node["NodeID"])):
        if not node["Alive"]:
            continue
        resources, labels = node["Resources"], node["Labels"]
        name = labels.get(NAME_LABEL) or str(node["NodeManagerHostname"]).replace(".", "-")
        ranks = int(labels.get(RANKS_LABEL, 1))
        gpus = int(resources.get("GPU", 0))
        for _ in range(gpus // ranks if gpus else resources.get("CPU", 0) >= 1):
            taken[name] = taken.get(name, 0) + 1
            numbered = name if taken[name] == 1 else f"{name}.{taken[name]}"
            yield Seat(node["NodeID"], numbered, ranks if gpus else 0, ranks)
