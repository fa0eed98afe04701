"""Whole clips on several ranks, from text and from a picture: equal to one process, and refusals on all ranks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rank_helpers import run_ranks

from ovi_studio.distributed.decode import grid


@pytest.fixture(scope="module", params=[2, 4], ids=["2 ranks", "4 ranks"])
def found(request: pytest.FixtureRequest, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("clips")
    picture = folder / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 160, 3), np.uint8)).save(picture)
    return run_ranks(request.param, "rank_clips", str(folder / "answer.json"), str(tiny_bundle), str(picture))


def test_clips_equal_those_of_one_process(found: Any) -> None:
    assert len(found["clips"]) == 12
    for name, clip in found["clips"].items():
        assert clip["same on every rank"], name
        assert clip["latents"] < 1e-5, name
        # Pixels are cut to whole numbers, so a difference of 1e-6 moves a few by one.
        largest, moved = clip["pixels"]
        assert largest <= 1, name
        assert moved < 1e-3, name
        assert clip["samples"] < 1e-4, name
        assert clip["hashes"] == 6


def test_ranks_leave_out_the_same_passes_as_one_process(found: Any) -> None:
    passes = {name: clip["video passes"] for name, clip in found["clips"].items() if name.startswith("FULL_SHARD")}
    # Three steps of two passes; the cache computes both in 11 of 20 steps.
    assert passes["FULL_SHARD, text"] == 6
    assert passes["FULL_SHARD, one pass"] == 3
    assert passes["FULL_SHARD, step cache"] == 20 + 11


def test_a_clips_record_has_its_sharding_and_fewer_resident_blocks_with_adapters(found: Any) -> None:
    sharded = {"sharding": "FULL_SHARD", "offloaded": False, "weights": "bf16", "resident_blocks": 1}
    assert found["clips"]["FULL_SHARD, text"]["memory"] == sharded
    assert found["clips"]["FULL_SHARD, adapter beside"]["memory"] == sharded | {"resident_blocks": 0}
    assert found["clips"]["NO_SHARD, adapter beside"]["memory"]["resident_blocks"] == 2


def test_an_error_of_one_rank_is_raised_on_all_and_the_next_clip_is_made(found: Any) -> None:
    picture, layer = found["refusals"]
    assert "gone.png" in picture
    assert "Skip-layer block 9 does not exist" in layer


def test_tiles_that_ranks_decode_equal_the_whole(found: Any) -> None:
    for name, (error, shares) in found["decoding"].items():
        # Cut to whole numbers: half a step at most, and rounding.
        assert error < 0.5 + 1e-4 * 255, name
        if name.startswith("11x13"):
            assert min(shares) > 0.7 * max(shares), name


@pytest.mark.parametrize(
    ("height", "width", "limit", "ranks", "expected"),
    [
        (44, 44, None, 1, (1, 1)),
        (44, 80, None, 2, (1, 2)),
        (60, 60, None, 4, (2, 2)),
        (44, 80, None, 8, (2, 4)),
        (60, 60, 20, 4, (3, 4)),
        (1, 1, None, 4, (1, 1)),
    ],
)
def test_tiles_are_as_many_as_ranks_and_within_the_size_limit(
    height: int, width: int, limit: int | None, ranks: int, expected: tuple[int, int]
) -> None:
    assert grid(height, width, limit, ranks) == expected
