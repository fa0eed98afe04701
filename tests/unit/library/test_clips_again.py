"""Using a clip of the library again, and clips from elsewhere."""

import dataclasses
import os
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from clip_reading import read_frames
from library_clips import listed, picture, write
from PIL import Image

from ovi_studio.core.errors import JobError
from ovi_studio.media.clip_files import FirstFrameMissing

# Using a clip again


def test_settings_bring_the_first_frame_along(library, paths):
    first = picture()
    write(paths, "with picture", first=first, seed=3)
    (clip,) = listed(library)
    assert clip.spec.image == Path("first.png")
    spec = library.settings(clip.id)
    assert spec.image.parent == paths.pictures
    assert spec.image.read_bytes() == first.data
    assert dataclasses.replace(spec, image=None) == dataclasses.replace(clip.spec, image=None)


def test_the_last_frame_is_the_one_that_players_show(library, paths):
    path = write(paths)
    (clip,) = listed(library)
    found = library.last_frame(clip.id)
    assert found.parent == paths.pictures
    assert library.last_frame(clip.id) == found
    with Image.open(found) as image:
        np.testing.assert_array_equal(np.asarray(image), read_frames(path)[-1])


def test_the_poster_that_is_made_is_the_frame_that_the_writer_takes(paths):
    from ovi_studio.media.frames import read_frame

    path = write(paths)
    frames = read_frames(path)
    np.testing.assert_array_equal(read_frame(path, 4), frames[4])
    np.testing.assert_array_equal(read_frame(path, 400), frames[-1])


def test_a_clip_from_elsewhere_gives_its_settings_and_is_not_kept(library, paths, tmp_path):
    upload = Path(shutil.move(write(paths, "from afar", first=picture()), tmp_path / "upload.mp4"))
    spec = library.adopt(upload)
    assert spec.prompt == "from afar"
    assert spec.image.parent == paths.pictures
    assert upload.exists()
    assert listed(library) == ()


def clear_tags(path: Path) -> None:
    """What a service does that makes the tags free space."""
    path.write_bytes(path.read_bytes().replace(b"udta", b"free", 1))


def test_a_clip_whose_tags_were_cleared_stays_the_same_clip(library, paths):
    path = write(paths, "cleared", seed=7)
    (before,) = listed(library)
    library.set_favourite([before.id], True)
    clear_tags(path)
    assert b"udta" not in path.read_bytes()
    os.utime(path, (before.made + 1, before.made + 1))
    (after,) = listed(library)
    assert after == dataclasses.replace(before, made=after.made, favourite=True)


def test_a_cleared_clip_from_a_picture_can_be_continued_and_says_what_is_missing(library, paths, tmp_path):
    clear_tags(write(paths, "cleared", first=picture(), seed=3))
    (clip,) = listed(library)
    assert library.continuation(clip.id).image == library.last_frame(clip.id)
    upload = Path(shutil.copy(paths.outputs / clip.name, tmp_path / "upload.mp4"))
    for use in (lambda: library.settings(clip.id), lambda: library.adopt(upload)):
        with pytest.raises(FirstFrameMissing, match="choose the picture again") as caught:
            use()
        assert str(tmp_path) not in str(caught.value)
        assert (caught.value.spec.seed, caught.value.spec.image) == (3, None)


def test_a_poster_gives_its_settings_also_one_that_was_made_later(library, paths, tmp_path):
    poster = write(paths, "from afar", seed=9).with_suffix(".jpg")
    upload = Path(shutil.move(poster, tmp_path / "upload.jpg"))
    assert (library.adopt(upload).prompt, library.adopt(upload).seed) == ("from afar", 9)
    (clip,) = listed(library)
    assert clip.poster == poster
    assert library.adopt(Path(shutil.copy(poster, upload))).prompt == "from afar"


def test_a_clip_from_before_a_setting_existed_keeps_what_was_done_then(library, paths):
    path = write(paths, "old", first=picture())
    field = b'"raw_colours": false, '
    assert path.read_bytes().count(field) == 2
    path.write_bytes(path.read_bytes().replace(field, b" " * len(field)))
    (clip,) = listed(library)
    assert clip.spec.raw_colours
    assert library.settings(clip.id).raw_colours
    with sqlite3.connect(paths.state / "library.db") as index:  # as it was written then
        index.execute("UPDATE files SET spec = replace(spec, '\"raw_colours\": true, ', '')")
        assert index.total_changes == 1
    index.close()
    assert library.get(clip.id).spec.raw_colours


@pytest.mark.parametrize("content", [b"", b"<script>", os.urandom(2**20), bytes(20 * 2**20)])
def test_an_upload_that_is_not_a_clip_is_refused_without_its_path(library, tmp_path, content):
    upload = tmp_path / "upload.mp4"
    upload.write_bytes(content)
    with pytest.raises(JobError) as caught:
        library.adopt(upload)
    assert str(tmp_path) not in str(caught.value)
    with pytest.raises(JobError):
        library.adopt(tmp_path / "missing.mp4")


# Clips from elsewhere


def test_a_clip_from_elsewhere_is_added_once_and_replaces_nothing(library, paths, tmp_path):
    there = dataclasses.replace(paths, outputs=tmp_path / "there")
    upload = write(there, "From elsewhere")
    (paths.outputs / "fox.mp4").write_bytes(b"not a clip")
    copy = tmp_path / "copy.mp4"
    shutil.copy(upload, copy)
    clip, new = library.add(upload, "fox.mp4")
    assert new
    assert library.get(clip).name == "fox_2.mp4"
    assert (paths.outputs / "fox.mp4").read_bytes() == b"not a clip"
    assert not upload.exists()
    assert library.add(copy, "other.mp4") == (clip, False)
    assert [path.name for path in paths.outputs.glob("*.part")] == []


def test_what_is_no_clip_of_this_app_is_not_added(library, paths, tmp_path):
    broken = tmp_path / "holiday.mp4"
    broken.write_bytes(write(paths).read_bytes()[:-9])
    with pytest.raises(JobError, match="is damaged or was not made by Ovi Studio"):
        library.add(broken, "holiday.mp4")
    assert len(list(paths.outputs.glob("*.mp4"))) == 1
