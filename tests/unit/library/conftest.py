"""A folder for clips, and the library over it."""

from pathlib import Path

import pytest

from ovi_studio.library import Library
from ovi_studio.queue.paths import StudioPaths


@pytest.fixture
def paths(tmp_path: Path) -> StudioPaths:
    found = StudioPaths.of(tmp_path / "outputs")
    found.prepare()
    return found


@pytest.fixture
def library(paths: StudioPaths):
    opened = Library(paths)
    yield opened
    opened.close()
