"""The seats of a cluster's nodes, and their names."""

from typing import Any

from ovi_studio.farm.machine import NAME_LABEL, RANKS_LABEL
from ovi_studio.farm.seats import Seat, seats


def node(ident: str, *, gpus: int = 0, cpus: int = 1, ranks: int = 1, name: str = "rig") -> dict[str, Any]:
    return {
        "NodeID": ident,
        "Alive": True,
        "Resources": {"GPU": gpus, "CPU": cpus},
        "Labels": {NAME_LABEL: name, RANKS_LABEL: str(ranks)},
        "NodeManagerHostname": "host.local",
    }


def test_each_gpu_has_a_seat_unless_several_share_a_clip_and_a_head_has_none() -> None:
    found = seats([node("a", gpus=2), node("b", gpus=5, ranks=2), node("c", cpus=0), node("d", ranks=2)])
    assert [(seat.node, seat.number, seat.gpus, seat.ranks) for seat in found] == [
        ("a", 0, 1, 1),
        ("a", 1, 1, 1),
        ("b", 0, 2, 2),
        ("b", 1, 2, 2),
        ("d", 0, 0, 2),
    ]
    assert len({seat.name for seat in found}) == len(found)


def test_machine_keeps_its_name_when_another_of_the_same_name_joins_or_leaves() -> None:
    (first,) = seats([node("m")])
    both = seats([node("a"), node("m"), node("z")], [first])
    assert {seat.node: seat.name for seat in both} == {"m": "rig", "a": "rig.2", "z": "rig.3"}
    assert first in both
    left = seats([node("a"), node("z")], both)
    assert {seat.node: seat.name for seat in left} == {"a": "rig.2", "z": "rig.3"}
    # Who joins again has the name that is free, not one of a seat that is no more.
    assert Seat("m2", 0, "rig", 0) in seats([node("a"), node("m2"), node("z")], [*both, *left])
