"""What the axis of a grid can be."""

import pytest

from ovi_studio.core.adapter_stack import AdapterUse, Strength
from ovi_studio.core.errors import JobError
from ovi_studio.core.grids import expand_grid
from ovi_studio.core.spec import ClipSpec
from ovi_studio.services.grid_axes import axis_kinds, read_axis
from ovi_studio.services.presets import Preset

FILM, GRAIN = AdapterUse(name="film.safetensors"), AdapterUse(name="old/grain.safetensors", video=Strength(((0.3,),)))
BASE = ClipSpec(prompt="a ball", variant="demo", accelerators=(FILM,), adapters=(GRAIN,))
PRESETS = (
    Preset("draft", "Draft", "", {"steps": 20}),
    Preset("slow", "Slow", "", {"steps": 90, "shift": 7.0}),
    Preset("other", "Other", "", {"steps": 30}, variants=("960x960_5s",)),
)
KINDS = axis_kinds(PRESETS, BASE.stack)


def specs(across: str, values: list[str], down: str | None = None, rows: list[str] | None = None) -> list[ClipSpec]:
    second = None if down is None else read_axis(KINDS[down], rows or [], BASE)
    return expand_grid(BASE, read_axis(KINDS[across], values, BASE), second)[0]


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.name != "preset"], ids=lambda kind: kind.name)
def test_the_offered_values_of_every_axis_make_different_clips(kind: object) -> None:
    made = specs(kind.name, list(kind.values.values()))
    assert len({repr(spec) for spec in made}) == len(made) >= 2


def test_seeds_are_given_or_drawn() -> None:
    assert [spec.seed for spec in specs("seed", ["5", "6, 7"])] == [5, 6, 7]
    drawn = [spec.seed for spec in specs("seed", ["3 random", "9"])]
    assert len(set(drawn)) == 4
    assert drawn[-1] == 9
    with pytest.raises(JobError, match="too many"):
        specs("seed", ["4000 random"])


def test_numbers_may_be_typed_as_a_list() -> None:
    assert [spec.video_guidance for spec in specs("video_guidance", ["2, 3.5"])] == [2, 3.5]
    with pytest.raises(JobError, match="not a valid value for steps"):
        specs("steps", ["ten", "20"])


def test_presets_apply_all_their_settings_and_only_to_their_models() -> None:
    assert [(spec.steps, spec.shift) for spec in specs("preset", ["draft", "slow"])] == [(20, 5.0), (90, 7.0)]
    with pytest.raises(JobError, match="only for 960x960_5s"):
        specs("preset", ["draft", "other"])
    with pytest.raises(JobError, match="cannot be used"):
        specs("preset", ["draft", "nonsense"])
    with pytest.raises(JobError, match="both set steps"):
        specs("preset", ["draft", "slow"], "steps", ["1", "2"])


def test_the_strengths_of_two_adapters_are_two_axes() -> None:
    made = specs("strength:film.safetensors", ["0", "1;0"], "strength:old/grain.safetensors", ["0.5", "1"])
    assert [(str(spec.accelerators[0].audio), str(spec.adapters[0].video)) for spec in made] == [
        ("0", "0.5"),
        ("1;0", "0.5"),
        ("0", "1"),
        ("1;0", "1"),
    ]
    assert {(spec.accelerators[0].name, spec.adapters[0].name) for spec in made} == {(FILM.name, GRAIN.name)}


def test_many_values_are_refused() -> None:
    with pytest.raises(JobError, match="use at most"):
        read_axis(KINDS["seed"], [",".join(map(str, range(500)))], BASE)
