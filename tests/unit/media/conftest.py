"""A clip that several tests read."""

from pathlib import Path

import pytest
from sample_clips import encoded_picture, make_clip

from ovi_studio.media import clip_files


@pytest.fixture(scope="module")
def clip_path(tmp_path_factory) -> Path:
    return clip_files.write_clip(make_clip(encoded_picture("PNG")), tmp_path_factory.mktemp("clips"))
