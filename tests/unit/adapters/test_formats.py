"""The list of adapter formats: consistency of its entries."""

import itertools
from collections import Counter

import pytest

from ovi_studio.adapters.formats.format import TUCKER, Format
from ovi_studio.adapters.formats.registry import FORMATS, PEFT_NAMES, SUFFIXES
from ovi_studio.adapters.groups import group_by_layer
from ovi_studio.adapters.header import Header, TensorInfo


def test_a_tensor_belongs_to_only_one_format() -> None:
    owners = Counter(role for kind in FORMATS for role in kind.roles)
    assert set(owners.values()) == {1}
    listed = [name for kind in FORMATS for name in (*kind.suffixes, *kind.peft)]
    assert len(set(listed)) == len(listed)


def test_no_suffix_ends_with_another_one() -> None:
    assert not [pair for pair in itertools.permutations(SUFFIXES, 2) if pair[0].endswith(pair[1])]


@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: "-".join(sorted(kind.roles)))
def test_the_tensors_of_a_format_are_recognised_by_their_names(kind: Format) -> None:
    endings = {**kind.suffixes, **{f".{name}": role for name, role in kind.peft.items()}}
    for ending, role in endings.items():
        groups, unknown = group_by_layer(Header({f"blocks.0.ffn.0{ending}": TensorInfo("F32", (1,), 0, 4)}, {}, 0))
        assert not unknown
        assert [(group.layer, *group.roles) for group in groups] == [("blocks.0.ffn.0", role)]
        assert role == TUCKER or role in kind.roles


@pytest.mark.parametrize("adapter", ["", ".default", ".my_style"])
@pytest.mark.parametrize("name", PEFT_NAMES)
def test_a_peft_name_may_contain_the_adapters_name(name: str, adapter: str) -> None:
    base, _, bias = name.partition(".")
    for ending in [".bias"] if bias else ["", ".weight"]:
        key = f"blocks.0.ffn.0.{base}{adapter}{ending}"
        groups, unknown = group_by_layer(Header({key: TensorInfo("F32", (1,), 0, 4)}, {}, 0))
        assert not unknown
        assert [(group.layer, *group.roles) for group in groups] == [("blocks.0.ffn.0", PEFT_NAMES[name])]


def test_a_product_has_a_title_with_and_without_magnitudes() -> None:
    assert all(kind.title and bool(kind.with_dora) == kind.product for kind in FORMATS)
