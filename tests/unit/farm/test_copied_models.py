"""Checkpoints that a machine copies from the head, without Ray between."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ovi_studio.checkpoints.layout import complete_variants
from ovi_studio.core.errors import JobError
from ovi_studio.farm import models
from ovi_studio.farm.machine import fingerprints
from ovi_studio.farm.models import ModelShelf, copy_models

PIECE = 2000


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "PIECE_BYTES", PIECE)
    monkeypatch.setattr(models, "MARGIN", 0)


class Head:
    """A shelf that may lose or damage what it sends."""

    def __init__(self, folder: Path, spoil: Callable[[bytes], bytes] = lambda piece: piece) -> None:
        self.shelf, self.spoil = ModelShelf(folder), spoil
        self.pieces: list[tuple[str, int]] = []
        self.lost_after = 10**9

    def __call__(self, method: str, *arguments: Any) -> Any:
        found = getattr(self.shelf, method)(*arguments)
        if method != "piece":
            return found
        if len(self.pieces) >= self.lost_after:
            raise JobError("The head does not answer.")
        self.pieces.append(arguments)
        return self.spoil(found)


def copy(head: Head, folder: Path, *variants: str) -> None:
    copy_models(head, folder, variants, lambda progress: None)


def names(folder: Path) -> list[str]:
    return [variant.name for variant in complete_variants(folder)]


def test_copied_variant_is_complete_and_counts_as_the_same(tiny_bundle: Path, tmp_path: Path) -> None:
    copy(Head(tiny_bundle), tmp_path)
    assert fingerprints(tmp_path) == fingerprints(tiny_bundle)
    again = Head(tiny_bundle)
    copy(again, tmp_path, "tiny")
    assert again.pieces == []


def test_interrupted_copy_resumes_where_it_stopped(tiny_bundle: Path, tmp_path: Path) -> None:
    head = Head(tiny_bundle)
    head.lost_after = 5
    with pytest.raises(JobError, match="does not answer"):
        copy(head, tmp_path)
    assert "tiny" not in names(tmp_path)
    head.lost_after = 10**9
    copy(head, tmp_path)
    assert "tiny" in names(tmp_path)
    assert len(set(head.pieces)) == len(head.pieces)


def test_file_that_was_damaged_on_the_way_is_refused_and_copied_again(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="damaged on the way from the head"):
        copy(Head(tiny_bundle, lambda piece: piece[:-1] + bytes([piece[-1] ^ 1])), tmp_path)
    assert not any(path.is_file() for path in tmp_path.rglob("*") if not path.name.startswith("."))
    copy(Head(tiny_bundle), tmp_path)
    assert "tiny" in names(tmp_path)


def test_each_reason_for_copying_nothing_is_a_sentence(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(JobError, match="does not have 960x960_5s; it has tiny"):
        copy(Head(tiny_bundle), tmp_path, "960x960_5s")
    with pytest.raises(JobError, match="it has none but the embedded one"):
        copy(Head(tmp_path), tmp_path, "tiny")
    monkeypatch.setattr(models, "free_space", lambda folder: 1000)
    with pytest.raises(JobError, match=r"has 1.0 kB free; free up"):
        copy(Head(tiny_bundle), tmp_path)


def test_head_sends_nothing_but_its_models(tiny_bundle: Path) -> None:
    shelf = ModelShelf(tiny_bundle)
    shelf.files("tiny")
    for location in ("../secret", "/etc/passwd", "bundle.json.bak"):
        with pytest.raises(ValueError, match="not offered"):
            shelf.piece(location, 0)
