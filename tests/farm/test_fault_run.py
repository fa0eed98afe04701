"""Each kind of fault at most once, over a short queue; `fault_run.py --faults 50` is the long form (docs/farm.md)."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from fault_run import run
from machines import possible
from places import PYTHON_PATH

KINDS = 9


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
def test_clips_are_made_once_whatever_is_killed_or_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not possible():
        pytest.skip("Networks of their own need Linux, root and `ip`.")
    monkeypatch.setenv("PYTHONPATH", PYTHON_PATH)
    found = run(tmp_path, faults=KINDS, jobs=10, steps=60, seed=2, limit=400)
    assert found.faults.total() >= KINDS // 2  # the queue may end before the last ones
    assert set(found.tries) <= {1, 2}
