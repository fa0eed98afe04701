"""The trash: clips are put away without losing one."""

import time
from pathlib import Path

import pytest
from library_clips import listed, prompts, write

from ovi_studio.core.errors import JobError
from ovi_studio.library import Library, Query


def test_trash_and_restore_move_clip_and_poster_together(library, paths):
    path = write(paths, "one")
    content = path.read_bytes()
    (clip,) = listed(library)
    (trashed,) = library.trash([clip.id])
    assert list(paths.outputs.iterdir()) == []
    assert library.search(Query()).total == 0
    (entry,) = library.trashed()
    assert (entry.id, entry.prompt, entry.name) == (trashed, "one", path.name)
    assert entry.poster.is_file()
    assert entry.trashed == pytest.approx(time.time(), abs=60)
    assert library.restore([trashed]) == 1
    assert library.search(Query()).clips == (clip,)
    assert path.read_bytes() == content
    assert sorted(file.suffix for file in paths.outputs.iterdir()) == [".jpg", ".mp4"]
    assert library.trashed() == []


def test_restoring_never_replaces_a_clip_of_the_same_name(library, paths):
    path = write(paths, "one")
    first = library.trash([listed(library)[0].id])
    assert write(paths, "one") == path
    second = library.trash([listed(library)[0].id])
    write(paths, "one")
    kept = path.read_bytes()
    assert len(library.trashed()) == 2
    library.restore([*first, *second])
    assert path.read_bytes() == kept
    assert len({clip.id for clip in listed(library)}) == 3
    assert len(list(paths.outputs.glob("*.jpg"))) == 3
    assert not list(paths.outputs.glob("*.part*"))


def test_emptying_the_trash_deletes_only_what_was_put_there(library, paths):
    write(paths, "keep")
    write(paths, "away")
    away = next(clip for clip in listed(library) if clip.spec.prompt == "away")
    library.trash([away.id])
    strange = paths.state / "trash" / "my notes"
    strange.mkdir()
    (paths.state / "trash" / ("a" * 24)).symlink_to(paths.outputs)
    emptied = library.empty_trash()
    assert library.trashed() == []
    library.delete_trashed(emptied)
    assert sorted(entry.name for entry in (paths.state / "trash").iterdir()) == ["a" * 24, "my notes"]
    assert prompts(library) == ["keep"]
    assert strange.is_dir()
    assert library.trashed() == []


def test_an_emptied_trash_keeps_its_files_until_they_are_deleted(library, paths):
    write(paths, "away")
    library.trash([listed(library)[0].id])
    revision = library.revision
    emptied = library.empty_trash()
    assert library.revision > revision
    assert library.empty_trash() == []
    # The program was killed: another one finds them where they were.
    again = Library(paths)
    assert [clip.prompt for clip in again.trashed()] == ["away"]
    again.close()
    library.refill_trash(emptied)
    assert [clip.prompt for clip in library.trashed()] == ["away"]


def test_a_clip_that_comes_back_from_an_emptied_trash_is_not_deleted(library, paths):
    write(paths, "away")
    trashed = library.trash([listed(library)[0].id])
    emptied = library.empty_trash()
    library.restore(trashed)
    library.delete_trashed(emptied)
    assert prompts(library) == ["away"]


@pytest.mark.parametrize("hostile", ["", "..", "../../outputs", "0" * 24, "/etc"])
def test_restoring_what_is_not_in_the_trash_is_refused(library, hostile):
    with pytest.raises(JobError, match="no longer in the trash"):
        library.restore([hostile])


def test_a_clip_that_cannot_be_moved_stays_whole(library, paths, monkeypatch):
    path = write(paths)
    (clip,) = listed(library)
    rename = Path.rename

    def refuse(source: Path, target: Path) -> Path:
        if source.suffix == ".mp4":
            raise OSError(28, "No space left on device")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(JobError, match="space"):
        library.trash([clip.id])
    assert path.exists()
    assert path.with_suffix(".jpg").exists()
    assert library.trashed() == []


def test_a_trash_on_another_disk_works(library, paths, monkeypatch):
    path = write(paths)
    content = path.read_bytes()
    (clip,) = listed(library)

    def refuse(source: Path, target: Path) -> Path:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "rename", refuse)
    trashed = library.trash([clip.id])
    assert list(paths.outputs.iterdir()) == []
    library.restore(trashed)
    assert path.read_bytes() == content
