"""The judge of seams, and the table."""

from types import SimpleNamespace

import numpy as np
import pytest

from ovi_studio.core.errors import JobError
from ovi_studio.demo.evaluate_film import FilmRow, evaluate_film, film_table, seams_within
from ovi_studio.demo.scenes import Background, Colour, Motion, Scene, Shape, Sound, render

SCENE = Scene(Colour.RED, Shape.BALL, Background.NIGHT, Motion.CIRCLE, Sound.SILENCE)


def test_a_real_scene_has_no_seam() -> None:
    assert seams_within(render(SCENE))


@pytest.mark.parametrize("edge", [21, 49])
def test_a_jump_at_an_edge_of_the_span_is_a_seam(edge: int) -> None:
    # 1 to 2 s touch latent frames 6 to 12, which are frames 21 to 48.
    frames = render(SCENE)
    frames[edge:] = np.roll(frames[edge:], 60, axis=2)
    assert not seams_within(frames)
    frames = render(SCENE)
    frames[10:] = np.roll(frames[10:], 60, axis=2)  # a cut elsewhere is none of the span's
    assert seams_within(frames)


def test_the_table_has_means_of_what_was_judged() -> None:
    rows = [
        FilmRow("a", {"sound": True, "impacts": None}),
        FilmRow("a", {"sound": False, "impacts": 0.5}),
        FilmRow("b", {"seam": True}),
    ]
    lines = film_table(rows).splitlines()
    assert lines[2] == "| a | 2 |  |  |  |  | 50% | 50% |  |  |"
    assert lines[3] == "| b | 1 |  |  |  |  |  |  |  | 100% |"


def test_an_unknown_kind_of_clips_is_refused() -> None:
    with pytest.raises(JobError, match="no clips of the kind 'news'; choose from whole clip, new sound"):
        evaluate_film(SimpleNamespace(), "demo", "lightning", 1, lambda row: None, ["news"])
