"""Hashes of files are cached, and never those of what a file contained before."""

import time
from hashlib import sha256
from pathlib import Path

from ovi_studio.checkpoints.hashes import file_sha256


def test_a_file_that_is_replaced_at_once_by_one_of_the_same_size_has_another_hash(tmp_path: Path) -> None:
    path = tmp_path / "adapter.safetensors"
    for number in range(5):
        content = f"{number:04}".encode()
        path.write_bytes(content)
        assert file_sha256(path) == sha256(content).hexdigest()
        # A file system may give two changes within some milliseconds the same time.
        assert time.time() - path.stat().st_mtime > 0.015
