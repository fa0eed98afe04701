"""Machines of different speeds finish a queue together, whatever the slowest one does."""

import pytest

from ovi_studio.farm.simulation import simulate


@pytest.mark.slow
def test_machine_that_is_four_times_as_fast_makes_about_four_times_as_many_clips(tmp_path):
    found = simulate(tmp_path, [1.0, 2.0, 4.0], clips=21, seconds=3.0)
    assert found.shares[0] <= 4 < found.shares[1] < 9 < found.shares[2]
    assert found.efficiency >= 0.8


@pytest.mark.slow
def test_machines_that_fail_now_and_then_make_every_clip_once(tmp_path):
    simulate(tmp_path, [1.0, 1.0, 2.0], clips=20, seconds=0.2, failures=0.2)
    assert len(list((tmp_path / "outputs").glob("*.mp4"))) == 20
