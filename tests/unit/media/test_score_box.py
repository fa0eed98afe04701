"""Scores in an mp4: written once the clip is there, read back, and no part of what the clip is."""

import os

import numpy as np
import pytest
from film_shots import write_shot

from ovi_studio.core.spans import ALL
from ovi_studio.core.spec import ClipSpec
from ovi_studio.library.probe import probe
from ovi_studio.media.clip_files import read_record
from ovi_studio.media.frames import read_frames
from ovi_studio.media.score_box import read_scores, write_scores
from ovi_studio.media.sources import pin_source

SCORES = {"word_error_rate": 0.25, "loudness": -20.5, "faults": []}


def test_scores_replace_those_before_and_leave_the_clip_as_it_was(tmp_path):
    clip = write_shot(tmp_path, [60] * 12)
    before, facts, record = clip.read_bytes(), probe(clip), read_record(clip)
    pinned = pin_source(ClipSpec(prompt="x", variant="960x960_5s", source=clip, keep_sound=ALL))
    os.utime(clip, (1_700_000_000,) * 2)
    assert read_scores(clip) is None
    write_scores(clip, {"error": "a long sentence " * 20})
    write_scores(clip, SCORES)
    assert read_scores(clip) == SCORES
    assert clip.read_bytes().startswith(before)
    assert clip.stat().st_mtime == 1_700_000_000
    assert (probe(clip), read_record(clip)) == (facts, record)
    assert len(list(read_frames(clip))) == 12
    # A clip that was queued to keep a part of this one is still made.
    assert pin_source(pinned) == pinned


@pytest.mark.parametrize("kept", [4, 20, 40], ids=["header", "identity", "content"])
def test_scores_that_a_killed_process_began_are_written_anew(tmp_path, kept):
    clip = write_shot(tmp_path, [60] * 12)
    size = clip.stat().st_size
    write_scores(clip, SCORES)
    whole = clip.read_bytes()
    clip.write_bytes(whole[: size + kept])
    assert read_scores(clip) is None
    write_scores(clip, SCORES)
    assert clip.read_bytes() == whole


def test_a_file_whose_scores_are_nonsense_has_none(tmp_path):
    clip = write_shot(tmp_path, np.arange(12))
    write_scores(clip, SCORES)
    clip.write_bytes(clip.read_bytes().replace(b'{"word', b'["word'))
    assert read_scores(clip) is None
