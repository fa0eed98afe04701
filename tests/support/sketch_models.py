"""Models for pictures of the page: they draw the scenes of the embedded model by their formula, so that a clip takes a
second on any machine. What they make shows the page and not the model.
"""

import time
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np

from ovi_studio.core.clip import Clip, NewFrameSink
from ovi_studio.core.spec import ClipSpec
from ovi_studio.demo.captions import caption
from ovi_studio.demo.scenes import Scene, draw_scene, render, synthesise
from ovi_studio.distributed.ranks import Ranks
from ovi_studio.runtime.options import RuntimeOptions

NAME = "sketch_models:SketchSource"
LONG = 200
"""Steps from which on a clip takes as long as one of a large model."""


def scene(number: int) -> tuple[Scene, str]:
    """One of the embedded model's scenes and its prompt."""
    random = np.random.default_rng(number)
    drawn = draw_scene(random)
    return drawn, caption(drawn, random, complete=True)


class SketchModels:
    """The scene of its prompt, or one that its seed chooses."""

    tier = None

    def __init__(self) -> None:
        self._scenes = {prompt: drawn for drawn, prompt in map(scene, range(100))}

    def __call__(
        self,
        spec: ClipSpec,
        on_step: Callable[[SimpleNamespace], None],
        on_decoded: Callable[[float], None],
        new_sink: NewFrameSink,
    ) -> Clip:
        for index in range(1, spec.steps + 1):
            time.sleep(0.5 if spec.steps >= LONG else 0.02)
            on_step(SimpleNamespace(index=index, total=spec.steps, latents=SimpleNamespace(video=None)))
        drawn = self._scenes.get(spec.prompt) or scene(spec.seed)[0]
        return Clip(spec, render(drawn), synthesise(drawn))


class SketchSource:
    def load(self, variant: str, options: RuntimeOptions, ranks: Ranks, exhausted: tuple[str, ...]) -> SketchModels:
        return SketchModels()

    def tier(self, variant: str, options: RuntimeOptions) -> None:
        return None
