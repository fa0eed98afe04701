"""Loading on several ranks: each reads and converts its own rows, and all refuse a file that one cannot load."""

from pathlib import Path
from typing import Any

import pytest
from rank_helpers import run_ranks


@pytest.fixture(scope="module", params=[3, 4], ids=["3 ranks", "4 ranks"])
def ranks(request: pytest.FixtureRequest) -> int:
    """Three ranks, which divide few numbers of rows evenly, and four, which can form two halves."""
    return request.param


@pytest.fixture(scope="module")
def found(ranks: int, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("loading")
    return run_ranks(ranks, "rank_loading", str(folder / "answer.json"), str(tiny_bundle), str(folder))


def loaded(found: dict[str, Any], files: str) -> dict[str, Any]:
    return {name: answer for name, answer in found[files].items() if name != "rows"}


@pytest.mark.parametrize(("files", "formats"), [("loading", 2), ("official", 1)])
def test_ranks_together_have_exactly_what_one_process_has(
    found: dict[str, Any], ranks: int, files: str, formats: int
) -> None:
    assert len(loaded(found, files)) == formats * (3 + (ranks == 4))
    for name, answer in loaded(found, files).items():
        assert answer["different"] == [], name
        assert answer["tied"], name
        copies = {"NO_SHARD": ranks, "HYBRID_SHARD": 2}.get(name.partition(",")[0], 1)
        assert sum(answer["parameters"]) == copies * answer["all parameters"], name
        # Rows of a small model divide badly; a rank that had all would have two or three times as much.
        assert max(answer["parameters"]) <= 1.25 * copies * answer["all parameters"] / ranks, name


def test_some_ranks_have_no_rows_of_some_tensors(found: dict[str, Any]) -> None:
    """Checks that the tests here cover this case."""
    assert max(found["loading"]["FULL_SHARD, int8"]["empty"]) > 0


def test_nothing_is_sent_and_each_row_is_quantised_by_the_rank_that_keeps_it(found: dict[str, Any], ranks: int) -> None:
    rows = found["loading"]["rows"]
    for name, answer in loaded(found, "loading").items():
        assert answer["sent"] == 0, name
        copies = {"NO_SHARD": ranks, "HYBRID_SHARD": 2}.get(name.partition(",")[0], 1)
        assert sum(answer["quantised"]) == ("int8" in name) * copies * rows, name
        assert max(answer["quantised"]) <= 1.1 * copies * rows / ranks, name


def test_all_ranks_refuse_what_one_cannot_load_with_the_message_of_one_process(
    found: dict[str, Any], ranks: int
) -> None:
    assert len(found["refusals"]) == (7 if ranks == 3 else 0)
    for name, said, alone in found["refusals"]:
        assert alone, name
        assert said == [alone] * ranks, name


def test_every_group_of_ranks_has_the_same_timeout(found: dict[str, Any]) -> None:
    """Half an hour; days for the group in which the leader broadcasts the next spec."""
    assert len(found["patience"]) >= 3
    assert all(seconds is not None and seconds >= 30 * 60 for seconds in found["patience"])
