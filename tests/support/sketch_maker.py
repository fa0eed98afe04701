"""A maker for pictures of the page: it draws the scenes of the embedded model by their formula, so that a clip takes a
second on any machine. What it makes shows the page and not the model.
"""

import time

import numpy as np

from ovi_studio.core.clip import Clip
from ovi_studio.core.spec import ClipSpec
from ovi_studio.demo.captions import caption
from ovi_studio.demo.scenes import Scene, draw_scene, render, synthesise
from ovi_studio.queue.model import Phase
from ovi_studio.runtime.runner import MakerOptions, Report

NAME = "sketch_maker:SketchMaker"
LONG = 200
"""Steps from which on a clip takes as long as one of a large model."""


def scene(number: int) -> tuple[Scene, str]:
    """One of the embedded model's scenes and its prompt."""
    random = np.random.default_rng(number)
    drawn = draw_scene(random)
    return drawn, caption(drawn, random, complete=True)


class SketchMaker:
    """The scene of its prompt, or one that its seed chooses."""

    def __init__(self, options: MakerOptions) -> None:
        self._scenes = {prompt: drawn for drawn, prompt in map(scene, range(100))}

    def __call__(self, spec: ClipSpec, report: Report) -> Clip:
        report.phase(Phase.TEXT)
        for index in range(1, spec.steps + 1):
            time.sleep(0.5 if spec.steps >= LONG else 0.02)
            report.step(index, spec.steps)
        drawn = self._scenes.get(spec.prompt) or scene(spec.seed)[0]
        return Clip(spec, render(drawn), synthesise(drawn))
