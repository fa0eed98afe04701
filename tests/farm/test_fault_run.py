"""The faults that no other test has, over a short queue; `fault_run.py --faults 50` is the long form (docs/farm.md)."""

import random
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest
from farm_helpers import BY_COMMAND
from fault_run import COSTLY, SPARING, run, shuffled
from machines import possible

KINDS = ("cable pulled", "network slow", "page killed", "cut in one direction", "farm process killed")


def test_every_kind_of_fault_is_dealt() -> None:
    dealt = Counter(shuffled(50, random.Random(1)))
    assert dealt.total() == 50
    assert set(dealt) == {*COSTLY, *SPARING}
    assert sum(dealt[kind] for kind in COSTLY) < 20


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
def test_clips_are_made_once_whatever_is_killed_or_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not possible():
        pytest.skip("Networks of their own need Linux, root and `ip`.")
    for name, value in BY_COMMAND.items():
        monkeypatch.setenv(name, value)
    found = run(tmp_path, KINDS, jobs=6, steps=200, chance=random.Random(2), limit=400)
    assert found.faults == Counter(KINDS)
    assert set(found.tries) <= {1, 2}
