"""The pictures that come with the embedded model are such as it can continue."""

import numpy as np
import pytest
from PIL import Image

from ovi_studio.demo.first_frames import EXAMPLES, FIRST_FRAME_ADVICE, SIDE, ExamplePicture
from ovi_studio.demo.seeing import measure_video


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.title)
def test_an_example_s_file_shows_its_scene_and_its_prompt_names_it(example: ExamplePicture) -> None:
    with Image.open(example.path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape == (SIDE, SIDE, 3)
    assert np.array_equal(pixels, example.draw())
    seen = measure_video(pixels[None])
    assert (seen.colour, seen.shape, seen.background) == (
        example.scene.colour,
        example.scene.shape,
        example.scene.background,
    )
    assert str(example.scene.colour) in example.prompt
    assert str(example.scene.shape) in example.prompt
    assert example.path.stat().st_size < 20_000


def test_the_advice_says_what_works_and_what_does_not() -> None:
    for word in ("ball", "square", "triangle", "ring", "photographs"):
        assert word in FIRST_FRAME_ADVICE
