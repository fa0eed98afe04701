"""The recipe in a clip: it makes the clip again with its first frame, and whatever a file holds is read with care."""

import contextlib
import hashlib
import json

import av
import numpy as np
import pytest
from PIL import Image
from sample_clips import encoded_picture, foreign_mp4, make_clip, tiny_clip

from ovi_studio import __version__
from ovi_studio.core.errors import JobError
from ovi_studio.media import clip_files


def test_record_says_how_the_clip_was_made(clip_path):
    record = clip_files.read_record(clip_path)
    assert (record["app"], record["version"]) == ("Ovi Studio", __version__)
    assert record["spec"]["prompt"] == "A <S>small<E> clip"
    assert record["seconds"] == 1.5
    assert record["checkpoints"] == {"transformer": "00ff"}
    assert record["picture"]["name"] == "first frame.png"
    assert record["picture"]["sha256"] == encoded_picture("PNG").sha256


def test_record_does_not_tell_where_pictures_lie(clip_path):
    assert b"somebody" not in clip_path.read_bytes()


def test_other_programs_find_the_record_in_the_comment(clip_path):
    with av.open(str(clip_path)) as container:
        assert json.loads(container.metadata["comment"]) == clip_files.read_record(clip_path)


def test_clip_can_be_made_again_from_the_mp4_alone(tmp_path):
    clip = make_clip(size=(704, 1280), steps=9, solver="dpm++", slg_layer=-1, audio_negative_prompt="", shift=2.5)
    assert clip_files.read_spec(clip_files.write_clip(clip, tmp_path), tmp_path) == clip.spec


@pytest.mark.parametrize("prompt", ["雨の音 🌧 \u202e", 'quotes " and \\ and \x07', "x" * 4000, "ü" * 4000])
def test_any_prompt_survives(tmp_path, prompt):
    clip = tiny_clip(prompt=prompt)
    assert clip_files.read_spec(clip_files.write_clip(clip, tmp_path), tmp_path).prompt == prompt


@pytest.mark.parametrize(("kind", "suffix"), [("PNG", ".png"), ("JPEG", ".jpg")])
def test_first_frame_comes_back_byte_for_byte(tmp_path, kind, suffix):
    picture = encoded_picture(kind, (1100, 1000))
    spec = clip_files.read_spec(clip_files.write_clip(make_clip(picture), tmp_path), tmp_path / "pictures")
    assert spec.image == tmp_path / "pictures" / (picture.sha256 + suffix)
    assert spec.image.read_bytes() == picture.data
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == [spec.image.name]


@pytest.mark.parametrize("kind", ["WEBP", "BMP", "GIF", "TIFF"])
def test_first_frame_of_another_kind_comes_back_pixel_for_pixel(tmp_path, kind):
    picture = encoded_picture(kind)
    path = clip_files.write_clip(make_clip(picture), tmp_path)
    image = clip_files.read_spec(path, tmp_path).image
    assert image.name == hashlib.sha256(image.read_bytes()).hexdigest() + ".png"
    assert np.array_equal(np.asarray(Image.open(image)), picture.pixels)
    assert clip_files.read_record(path)["picture"]["sha256"] == picture.sha256


def test_reading_a_spec_twice_leaves_one_picture(clip_path, tmp_path):
    assert clip_files.read_spec(clip_path, tmp_path) == clip_files.read_spec(clip_path, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_spec_of_a_clip_whose_first_frame_was_removed_is_refused(clip_path, tmp_path):
    stripped = foreign_mp4(tmp_path / "stripped.mp4", json.dumps(clip_files.read_record(clip_path)))
    with pytest.raises(JobError, match="choose the picture again"):
        clip_files.read_spec(stripped, tmp_path)


def test_first_frame_that_was_changed_is_refused(clip_path, tmp_path):
    data = bytearray(clip_path.read_bytes())
    data[data.index(b"IDAT") + 20] ^= 1
    changed = tmp_path / "changed.mp4"
    changed.write_bytes(data)
    with pytest.raises(JobError, match="choose the picture again"):
        clip_files.read_spec(changed, tmp_path)


def test_a_first_frame_that_is_not_a_picture_is_never_written(clip_path, tmp_path):
    data, picture = clip_path.read_bytes(), encoded_picture("PNG").data
    page = b"<script>".ljust(len(picture))
    forged = tmp_path / "forged.mp4"
    old, new = (hashlib.sha256(content).hexdigest().encode() for content in (picture, page))
    forged.write_bytes(data.replace(picture, page).replace(old, new))
    with pytest.raises(JobError, match="not a PNG or JPEG"):
        clip_files.read_spec(forged, tmp_path / "pictures")
    assert not (tmp_path / "pictures").exists()


@pytest.mark.parametrize(
    "comment",
    [
        None,
        "",
        "a holiday",
        "{",
        "[1]",
        "null",
        '{"app": "Another"}',
        '{"app": "Ovi Studio", "spec": 3}',
        "[" * 100_000,
    ],
)
def test_file_without_a_recipe_of_ours_is_refused(tmp_path, comment):
    with pytest.raises(JobError, match="made"):
        clip_files.read_record(foreign_mp4(tmp_path / "foreign.mp4", comment))


def test_huge_recipe_is_not_read(tmp_path):
    record = json.dumps({"app": "Ovi Studio", "spec": {}, "more": "x" * clip_files.MAX_RECORD_BYTES})
    with pytest.raises(JobError, match="1 MB"):
        clip_files.read_record(foreign_mp4(tmp_path / "huge.mp4", record))


@pytest.mark.parametrize("spec", [{}, {"prompt": "a", "variant": "b", "new_setting": 1}, {"prompt": 3, "variant": "b"}])
def test_recipe_with_a_spec_that_is_not_understood_is_refused(tmp_path, spec):
    path = foreign_mp4(tmp_path / "newer.mp4", json.dumps({"app": "Ovi Studio", "spec": spec}))
    with pytest.raises(JobError):
        clip_files.read_spec(path, tmp_path)


def test_missing_file_and_folder_are_refused_with_advice(tmp_path):
    for path in (tmp_path / "missing.mp4", tmp_path):
        with pytest.raises(JobError, match="There is no clip"):
            clip_files.read_record(path)


def test_broken_files_raise_nothing_but_job_errors(clip_path, tmp_path):
    random = np.random.default_rng(2)
    whole, path = clip_path.read_bytes(), tmp_path / "broken.mp4"
    for attempt in range(150):
        data = bytearray(whole[: random.integers(len(whole))] if attempt % 2 else whole)
        for position in random.integers(0, min(len(data), 6000) or 1, 20):
            if data:
                data[position] = random.integers(256)
        path.write_bytes(data)
        for read in (
            clip_files.read_record,
            lambda path: clip_files.read_spec(path, tmp_path / "pictures"),
        ):
            with contextlib.suppress(JobError):
                read(path)


def test_file_of_empty_boxes_is_given_up_early(tmp_path):
    path = tmp_path / "boxes.mp4"
    path.write_bytes(b"\0\0\0\x08free" * 1_000_000)
    with pytest.raises(JobError):
        clip_files.read_record(path)
