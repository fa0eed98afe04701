"""A working directory with pictures, for tables and configurations that name them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    """The working directory, with one picture in it and one in the tables' folder."""
    (tmp_path / "example_prompts").mkdir()
    pixels = np.zeros((32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "here.png")
    Image.fromarray(pixels).save(tmp_path / "example_prompts" / "there.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path
