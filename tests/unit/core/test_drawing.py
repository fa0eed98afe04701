"""How a first frame is asked for, and the official rules for its prompt and size."""

from typing import Any

import pytest

from ovi_studio.core.drawing import OFFICIAL_MODEL, Drawing, drawing_prompt, drawing_size
from ovi_studio.core.errors import JobError
from ovi_studio.core.prompts import AudioTag
from ovi_studio.core.spec import ClipSpec

MINIMAL = {"prompt": "a dog", "variant": "960x960_5s"}
DRAWN = {"model": "a/b", "prompt": "a cat", "steps": 8, "seed": 3, "guidance": 2.0, "sha256": "c" * 64}


def spec(**given: Any) -> ClipSpec:
    return ClipSpec.from_dict(MINIMAL | given)


def test_flat_names_of_a_table_make_a_drawing():
    made = spec(draw_first_frame="yes", image_model=" a/b ", image_steps="8", image_guidance="2.5", image_seed="")
    assert made.to_draw == Drawing(model="a/b", steps=8, guidance=2.5)
    assert spec(draw_first_frame=True).to_draw == Drawing(model=OFFICIAL_MODEL)
    assert ClipSpec.from_dict(made.to_dict()) == made


@pytest.mark.parametrize("asked", ["no", False, None, ""])
def test_nothing_is_drawn_unless_it_is_asked_for(asked):
    assert spec(draw_first_frame=asked).drawing is None


def test_given_names_override_those_of_the_base_and_no_draws_nothing():
    base = spec(draw_first_frame="yes", image_model="a/b", image_steps=8)
    assert base.with_settings({"image_steps": 4}).to_draw == Drawing(model="a/b", steps=4)
    assert base.with_settings({"draw_first_frame": "no"}).drawing is None


def test_a_drawn_picture_is_like_any_other_and_tells_how_it_was_drawn():
    made = spec(image="a.png", drawing=DRAWN)
    assert made.to_draw is None
    assert made.drawing is not None
    assert ClipSpec.from_dict(made.to_dict()) == made
    # Nor is anything drawn because the picture is left out.
    assert ClipSpec.from_dict(made.to_dict() | {"image": None}).to_draw is None


def test_drawn_anew_a_frame_shows_the_clip_as_it_is_now():
    made = ClipSpec.from_dict(spec(image="a.png", drawing=DRAWN).to_dict() | {"image": None, "draw_first_frame": True})
    assert made.to_draw == Drawing(model="a/b", steps=8, guidance=2.0)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"draw_first_frame": True, "image": "a.png"}, "There is a first frame, so none is drawn"),
        ({"draw_first_frame": "perhaps"}, "write yes or no"),
        ({"image_steps": 4}, "set draw_first_frame as well"),
        ({"draw_first_frame": True, "image_steps": 0}, "image steps must be between 1 and 1000"),
        ({"draw_first_frame": True, "image_steps": "many"}, "'many' is not a valid value for image steps"),
        ({"draw_first_frame": True, "image_guidance": float("nan")}, "image guidance must be between"),
        ({"draw_first_frame": True, "image_seed": -1}, "image seed must be between"),
        ({"draw_first_frame": True, "image_prompt": "a" * 4001}, "4001 characters"),
        ({"draw_first_frame": True, "image_model": "a\nb"}, "not the name of an image model"),
        ({"draw_first_frame": True, "image_negative_prompt": "fog", "image_guidance": 1}, "has no effect"),
        ({"drawing": "yes"}, "does not say how a first frame is drawn"),
        ({"drawing": {"sampler": "x"}}, "does not say how a first frame is drawn"),
        (
            {"draw_first_frame": True, "source": "a.mp4", "keep_picture": "1-2"},
            "has its picture from another",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_a_sentence(given, sentence):
    with pytest.raises(JobError, match=sentence):
        spec(**given)


@pytest.mark.parametrize(
    ("prompt", "tag", "shown"),
    [
        ("A man. <S>Hi<E> He waves. <AUDCAP>Wind<ENDAUDCAP>", AudioTag.AUDCAP, "A man.  He waves."),
        ("A man. <S>Hi\nthere<E> He waves.\nAudio: Wind\nand rain", AudioTag.AUDIO, "A man.  He waves."),
        ("A man. Audio: wind. He waves.", AudioTag.AUDCAP, "A man."),
        # In the variant's own form everything behind the description belongs to it.
        ("A man. <AUDCAP>Wind<ENDAUDCAP> He waves.", AudioTag.AUDIO, "A man."),
        ("<S>Hi<E>", AudioTag.AUDIO, ""),
    ],
)
def test_an_image_model_is_told_what_the_official_code_tells_it(prompt, tag, shown):
    assert drawing_prompt(prompt, tag) == shown


@pytest.mark.parametrize(
    ("clip", "picture"),
    [
        # As `scale_hw_to_area_divisible` of the official code gives them.
        ((704, 1280), (752, 1376)),
        ((1280, 704), (1376, 752)),
        ((960, 960), (1024, 1024)),
        ((512, 992), (736, 1424)),
        ((448, 1120), (640, 1616)),
    ],
)
def test_sizes_are_the_official_ones(clip, picture):
    assert drawing_size(*clip) == picture
