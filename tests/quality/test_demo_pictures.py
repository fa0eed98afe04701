"""The embedded model continues the pictures that come with it."""

from dataclasses import replace

import numpy as np
import pytest

from ovi_studio.core.variants import EMBEDDED_BUNDLE
from ovi_studio.demo.codec_check import psnr
from ovi_studio.demo.evaluate import base_spec, clip_runner, settings
from ovi_studio.demo.first_frames import EXAMPLES, ExamplePicture
from ovi_studio.demo.judges import keeps_first_frame, measure
from ovi_studio.demo.scenes import render


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.title)
def test_a_clip_begins_with_the_picture_and_keeps_its_object(example: ExamplePicture) -> None:
    spec = replace(base_spec("demo", settings()["picture"]), prompt=example.prompt, image=example.path, steps=8, seed=1)
    clip = clip_runner(EMBEDDED_BUNDLE).run(spec)
    frames, first = np.asarray(clip.frames), render(example.scene, slice(0, 1))[0]
    error = np.square(frames[0].astype(np.float32) - first).mean()
    assert psnr(error) > 26.5
    measured = measure(frames, clip.samples)
    assert (measured.colour, measured.shape) == (example.scene.colour, example.scene.shape)
    assert keeps_first_frame(measured, first, example.scene)
