"""Twenty sessions at once: memory, descriptors, threads and answers stay bounded. `soak.py` runs for longer."""

from pathlib import Path

from soak import SESSIONS, soak

SECONDS = 12
MAX_MEGABYTES = 300
MAX_SECONDS = 45
"""For one answer, on a machine that is busy."""


def test_twenty_sessions_stay_within_bounds(tmp_path: Path) -> None:
    readings, tally = soak(tmp_path / "outputs", SECONDS, every=5)
    assert tally.problems == []
    assert tally.actions["open"] == SESSIONS
    assert min(tally.actions[name] for name in ("library", "list", "queue", "upload", "cancel")) > 0
    assert max(tally.slowest.values()) < MAX_SECONDS
    start, end = readings[0], readings[-1]
    assert max(reading.megabytes for reading in readings) < MAX_MEGABYTES
    # A connection of each session, and the threads of Gradio's pool.
    assert end.descriptors < start.descriptors + 4 * SESSIONS
    assert end.threads < start.threads + 60
