"""Hashes of files are cached, and never those of what a file contained before."""

from hashlib import sha256
from pathlib import Path

import pytest

from ovi_studio.checkpoints import hashes
from ovi_studio.checkpoints.hashes import file_sha256


def test_a_file_that_is_replaced_while_its_hash_is_cached_has_another_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "adapter.safetensors"
    path.write_bytes(b"before")
    identity = hashes._identity
    looks = 0

    def looked(file: Path) -> tuple[str, list[int]]:
        nonlocal looks
        looks += 1
        found = identity(file)
        if looks == 2:  # as another process does, once the file was found unchanged
            path.write_bytes(b"after that")
        return found

    monkeypatch.setattr(hashes, "_identity", looked)
    assert file_sha256(path) == sha256(b"before").hexdigest()
    assert file_sha256(path) == sha256(b"after that").hexdigest()
