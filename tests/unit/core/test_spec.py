"""The limits of `ClipSpec`, and that every form of it gives the same spec back."""

import dataclasses
import json
import math
from pathlib import Path
from random import Random

import pytest

from ovi_studio.core.errors import JobError
from ovi_studio.core.sizes import parse_size
from ovi_studio.core.spec import MAX_SEED, ClipSpec, clip_size
from ovi_studio.core.variants import published_variants

MINIMAL = {"prompt": "a dog", "variant": "960x960_5s"}
FULL = MINIMAL | {
    "image": "pictures/a.png",
    "raw_colours": True,
    "drawing": {
        "model": "a/b",
        "prompt": "a cat",
        "negative_prompt": "fog",
        "steps": 8,
        "guidance": 2.5,
        "seed": 3,
        "sha256": "c" * 64,
    },
    "size": [704, 1280],
    "steps": 4,
    "solver": "dpm++",
    "shift": 3.5,
    "timesteps": [1000.0, 937.5, 500.0, 250.0],
    "seed": MAX_SEED,
    "video_guidance": 1.0,
    "audio_guidance": 0.0,
    "slg_layer": -1,
    "step_cache": "fast",
    "video_negative_prompt": "",
    "audio_negative_prompt": "hum",
    "accelerators": [{"name": "fast.safetensors", "sha256": None, "video": "1", "audio": "0"}],
    "adapters": [{"name": "film.safetensors", "sha256": "a" * 64, "video": "0.8", "audio": "1;0.5,0"}],
    "typed_prompt": "a ball",
    "source": "clips/a.mp4",
    "source_sha256": "b" * 64,
    "keep_picture": "0.5-1.25,3-",
    "keep_sound": "all",
    "strength": 0.75,
    "resamples": 2,
}
TEXTS = {"size": "704x1280", "timesteps": "1000, 937.5;500,250"}


def spec(**changes) -> ClipSpec:
    return ClipSpec.from_dict(MINIMAL | changes)


@pytest.mark.parametrize("values", [MINIMAL, FULL])
def test_spec_survives_json(values):
    made = ClipSpec.from_dict(values)
    assert ClipSpec.from_dict(json.loads(json.dumps(made.to_dict()))) == made


def test_every_field_is_written():
    assert ClipSpec.from_dict(FULL).to_dict() == FULL
    assert set(ClipSpec.from_dict(MINIMAL).to_dict()) == {field.name for field in dataclasses.fields(ClipSpec)}


@pytest.mark.parametrize("image", ["pictures/a.png", None])
def test_a_record_from_before_a_setting_existed_means_what_was_done_then(image):
    old = ClipSpec.from_dict(MINIMAL | {"image": image}).to_dict()
    del old["raw_colours"]
    assert ClipSpec.from_record(old).raw_colours
    assert not ClipSpec.from_dict(old).raw_colours
    assert not ClipSpec.from_record(old | {"raw_colours": False}).raw_colours


def test_text_of_a_table_is_converted():
    texts = {name: str(value) for name, value in FULL.items()} | TEXTS
    texts |= {name: json.dumps(FULL[name]) for name in ("accelerators", "adapters")}
    texts["drawing"] = FULL["drawing"]  # tables have flat names for it
    assert ClipSpec.from_dict(texts) == ClipSpec.from_dict(FULL)


def test_empty_text_means_the_default_but_a_negative_prompt_may_be_empty():
    made = spec(image="", size="", steps="", seed=None, video_negative_prompt="", audio_negative_prompt=None)
    assert made == ClipSpec(**MINIMAL, video_negative_prompt="")


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("steps", [1, 1000, "50", 50.0], [0, 1001, -1, 2.5, "2.5", "many", True, 10**400, [], {}, float("nan")]),
        ("seed", [0, MAX_SEED, "7"], [-1, MAX_SEED + 1, 0.5, 1e300, float("inf"), "0x10", False]),
        ("shift", [0.01, 100, "5.0", 1], [0, -1, 101, "nan", float("nan"), "inf", 10**400, "", None][:7]),
        ("video_guidance", [0, 100, "4"], [-0.1, 100.1, "-inf", "four", True, [4]]),
        ("audio_guidance", [0, 100, "4"], [-0.1, 100.1, "-inf", "four", True, [4]]),
        ("slg_layer", [-1, 0, 29, "11"], ["eleven", 1.5, True, [1]]),
        ("step_cache", ["off", "fast", None], ["Fast", "on", True, ["fast"]]),
        ("solver", ["unipc", "euler", "dpm++", "restart"], ["ddim", "UniPC", 3, ["unipc"]]),
        (
            "size",
            [[64, 96], (704, 1280), "704x1280", "704*1280", "704X1280"],
            [[0, 64], [64], [1, 2, 3], "64", 64, "-1x5"],
        ),
        ("size", [[8192, 512]], [[8193, 1024], [8192, 511], "1x17", [64.5, 64], [True, True], {"a": 1, "b": 2}, "x"]),
        (
            "timesteps",
            [[1000, 500], "1000,750,500,250", "999.5", [], "", None],
            ["1000;", "fast", [0], "500,500", "250,500", "1001", "nan", [True], 5, {"a": 1}, "5," * 1000 + "5"],
        ),
        (
            "adapters",
            [[], "", "[]", None, [{"name": "a", "video": 1, "audio": "1;0"}], '[{"name": "a"}]'],
            ["a", 5, {"name": "a"}, [{"name": "a"}, {"name": "a"}], [{"name": "a", "video": "loud"}], [{}], [3]],
        ),
        ("accelerators", [[{"name": "a"}]], [[{"name": "a", "weight": 1}], [{"name": "a", "sha256": "b"}], "{"]),
        ("raw_colours", [True, False, "true", "No", "1", " 0 "], [1, 0, 0.0, "maybe", "on off", [], ["true"]]),
        ("image", ["a.png", Path("a.png")], [3, ["a.png"], {"a": "b"}]),
        ("prompt", ["x" * 4000], ["", " \n", "x" * 4001, 3, ["a"], None, "half a pair \ud83d"]),
        ("video_negative_prompt", ["", "x" * 4000], ["x" * 4001, 3, "\udc00"]),
        ("audio_negative_prompt", ["", "x" * 4000], ["x" * 4001, 3, "\udc00"]),
        ("variant", ["anything"], ["", None, 5]),
    ],
)
def test_values_within_their_limits_pass_and_others_are_refused_briefly(name, good, bad):
    for value in good:
        assert spec(**{name: value})
    for value in bad:
        with pytest.raises(JobError) as caught:
            spec(**{name: value})
        assert len(str(caught.value)) < 300


def test_limits_hold_however_a_spec_is_made():
    with pytest.raises(JobError, match="steps"):
        dataclasses.replace(spec(), steps=0)
    with pytest.raises(JobError, match="seed"):
        ClipSpec(**MINIMAL, seed=-1)


def test_a_spec_with_adapters_is_hashable_and_equal_to_its_like():
    made = ClipSpec.from_dict(FULL)
    assert {made: 1}[ClipSpec.from_dict(FULL)] == 1
    assert made.stack == made.accelerators + made.adapters
    assert made.with_stack(made.stack) == made


def test_one_adapter_is_not_in_both_lists():
    with pytest.raises(JobError, match="listed twice"):
        spec(accelerators=[{"name": "a"}], adapters=[{"name": "a"}])


def test_timesteps_bring_their_number_of_steps():
    assert spec(timesteps="1000,500").steps == 2
    assert spec(timesteps="1000,500", steps=2).timesteps == (1000, 500)
    with pytest.raises(JobError, match="2 timesteps but 50 steps"):
        spec(timesteps="1000,500", steps=50)


def test_steps_and_timesteps_replace_each_other():
    explicit = spec(timesteps="1000,500")
    assert explicit.with_settings({"shift": 3}).timesteps == (1000, 500)
    assert explicit.with_settings({"steps": 20}) == spec(steps=20)
    assert spec(steps=20).with_settings({"timesteps": [1000, 500]}) == explicit
    assert explicit.with_settings({"steps": 2, "timesteps": (900, 100)}).timesteps == (900, 100)


def test_changing_one_list_of_adapters_keeps_the_other():
    made = ClipSpec.from_dict(FULL)
    assert made.with_settings({"accelerators": ()}).adapters == made.adapters
    assert made.with_settings({"adapters": []}).accelerators == made.accelerators


def test_unknown_setting_is_named_and_the_known_ones_are_listed():
    with pytest.raises(JobError, match=r"cfg_scale.*video_guidance"):
        spec(cfg_scale=3)


def test_error_about_a_huge_value_is_short():
    with pytest.raises(JobError) as caught:
        spec(steps="9" * 1_000_000)
    assert len(str(caught.value)) < 200


def random_value(random: Random, depth: int = 0) -> object:
    """Some JSON value, now and then one near a limit."""
    if depth < 2 and random.random() < 0.2:
        values = [random_value(random, depth + 1) for _ in range(random.randrange(4))]
        return random.choice([values, {str(index): value for index, value in enumerate(values)}])
    texts = ["", " ", "a", "4", "-1", "1e999", "nan", "704x1280", "euler", "\0", "\ud800", "9" * 5000, "٣"]
    numbers = [0, 1, -1, 2, 50, 0.5, 1e308, math.inf, math.nan, 10**400, MAX_SEED, MAX_SEED + 1]
    return random.choice([*texts, *numbers, True, False, None])


def test_any_input_gives_a_spec_or_a_job_error():
    random = Random(0)
    made = 0
    for _ in range(3000):
        values = {name: random_value(random) for name in random.sample([*FULL, "other"], 2)}
        try:
            spec_of_them = spec(**values)
        except JobError:
            continue
        made += 1
        assert ClipSpec.from_dict(json.loads(json.dumps(spec_of_them.to_dict(), allow_nan=False))) == spec_of_them
    assert 50 < made < 2950


def test_spec_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec().steps = 3


def test_clip_is_unguided_only_if_both_scales_are_one():
    assert spec().guided
    assert spec(video_guidance=1).guided
    assert not spec(video_guidance=1, audio_guidance=1).guided


def test_size_is_the_pictures_then_the_specs_then_the_variants():
    variant = published_variants()["960x960_5s"]
    assert clip_size(spec(), variant) == variant.default_size == (704, 1280)
    assert clip_size(spec(size=[100, 100]), variant) == (960, 960)
    assert clip_size(spec(size=[100, 100]), variant, (1080, 1920)) == (704, 1280)


@pytest.mark.parametrize("text", ["704x1280", " 704 x 1280 ", "704*1280", "704X1280"])
def test_size_is_parsed(text):
    assert parse_size(text) == (704, 1280)


@pytest.mark.parametrize(
    "text", ["", "704", "704x", "axb", "1x2x3", "704.5x10", "16:9", "0x10", "9000x9000", "10x1000"]
)
def test_a_malformed_size_is_refused(text):
    with pytest.raises(JobError, match="Size"):
        parse_size(text)
