"""What the tests of training share."""

from pathlib import Path

import pytest
from training_helpers import sample

from ovi_studio.training.cache import LatentDataset, write_sample


@pytest.fixture
def dataset(tmp_path: Path) -> LatentDataset:
    for index in range(10):
        write_sample(tmp_path / "cache", f"clip_{index}", sample(index))
    return LatentDataset(tmp_path / "cache")
