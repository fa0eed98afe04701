"""The recipe survives services that clear the tags of a clip: in a box of its own, and in the poster."""

import contextlib
import io
import json
import struct
from pathlib import Path

import av
import numpy as np
import pytest
from clip_reading import read_frames, read_samples
from PIL import Image

from ovi_studio.core.clip import Clip, Picture
from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.media import clip_files, mp4_boxes
from ovi_studio.media.clip_files import FirstFrameMissing, read_record, read_spec, write_clip
from ovi_studio.media.pictures import decode_picture


def make_clip(picture: Picture | None = None, **settings) -> Clip:
    rows, columns = np.mgrid[:32, :64]
    frames = np.stack([np.stack([rows * 4, columns * 2, rows + 9 * t], -1) for t in range(9)]).astype(np.uint8)
    settings = {"prompt": "A clip", "variant": "960x960_5s", "image": Path("first.png") if picture else None} | settings
    return Clip(ClipSpec(**settings), frames, np.zeros(6000, np.float32), picture, {"seconds": 1.5})


def picture() -> Picture:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (200, 40, 20)).save(buffer, "PNG")
    return decode_picture(buffer.getvalue(), "test")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(make_clip(), tmp_path / "clips", "clip")


@pytest.fixture
def pictured(tmp_path: Path) -> Path:
    return write_clip(make_clip(picture()), tmp_path / "clips", "pictured")


def without_tags(path: Path) -> Path:
    """The clip as a service leaves it that cuts out the tags and corrects the offsets of what lies behind them."""
    data = bytearray(path.read_bytes())
    file = io.BytesIO(data)
    tags = mp4_boxes.find(file, (b"moov", b"udta"))
    index = mp4_boxes.find(file, (b"moov",))
    start, removed = tags.start - 8, tags.end - tags.start + 8
    for track in [box for box in mp4_boxes.boxes(file, index) if box.kind == b"trak"]:
        found = data.index(b"stco", track.start) + 8
        (count,) = struct.unpack_from(">I", data, found)
        for place in range(found + 4, found + 4 + 4 * count, 4):
            struct.pack_into(">I", data, place, struct.unpack_from(">I", data, place)[0] - removed)
    struct.pack_into(">I", data, index.start - 8, index.size + 8 - removed)
    del data[start : start + removed]
    path.with_suffix(".cleared.mp4").write_bytes(data)
    return path.with_suffix(".cleared.mp4")


def with_emptied_tags(path: Path) -> Path:
    """The clip as a service leaves it that makes the tags free space, so that nothing moves."""
    path.with_suffix(".emptied.mp4").write_bytes(path.read_bytes().replace(b"udta", b"free", 1))
    return path.with_suffix(".emptied.mp4")


def own_box(data: bytes) -> int:
    """Where our own box begins."""
    return data.rindex(b"uuid") - 4


@pytest.mark.parametrize("clear", [without_tags, with_emptied_tags])
def test_a_clip_whose_tags_were_cleared_keeps_its_recipe(clip, tmp_path, clear):
    cleared = clear(clip)
    with av.open(str(cleared)) as container:
        assert "comment" not in container.metadata
    assert np.array_equal(read_frames(cleared), read_frames(clip))
    assert read_record(cleared) == read_record(clip)
    assert read_spec(cleared, tmp_path) == make_clip().spec


def test_players_pass_over_the_second_copy(clip, tmp_path):
    data = clip.read_bytes()
    short = tmp_path / "short.mp4"
    short.write_bytes(data[: own_box(data)])
    assert np.array_equal(read_frames(clip), read_frames(short))
    assert np.array_equal(read_samples(clip), read_samples(short))
    with av.open(str(clip)) as container, av.open(str(short)) as plain:
        assert container.duration == plain.duration
        assert [stream.type for stream in container.streams] == [stream.type for stream in plain.streams]


def test_a_comment_that_a_service_has_replaced_hides_no_recipe(clip):
    record, data = read_record(clip), clip.read_bytes()
    start = data.index(b'{"seconds"')
    end = data.index(b"}}", start) + 2
    clip.write_bytes(data[:start] + b"Uploaded with a service".ljust(end - start) + data[end:])
    assert read_record(clip) == record


def test_a_cleared_clip_from_a_picture_has_its_settings_and_asks_for_the_picture(pictured, tmp_path):
    cleared = without_tags(pictured)
    with pytest.raises(FirstFrameMissing, match="choose the picture again") as caught:
        read_spec(cleared, tmp_path)
    assert caught.value.spec == make_clip().spec
    again = read_spec(cleared, tmp_path / "pictures", image=tmp_path / "mine.png")
    assert again == make_clip(image=tmp_path / "mine.png").spec
    assert not (tmp_path / "pictures").exists()


@pytest.mark.parametrize(
    "forged",
    [
        b"",
        b"{",
        b"[1]",
        b"\xff\xfe",
        b'{"app": "Another", "spec": {}}',
        b'{"app": "Ovi Studio", "spec": 3}',
        b"[" * 100_000,
        b'"' + b"x" * clip_files.MAX_RECORD_BYTES,
    ],
    ids=range(8),
)
def test_a_forged_second_copy_is_passed_over_and_a_sentence_where_it_is_the_only_one(clip, forged):
    record, data = read_record(clip), clip.read_bytes()
    start = own_box(data)
    box = struct.pack(">I4s", 24 + len(forged), b"uuid") + data[start + 8 : start + 24] + forged
    clip.write_bytes(data[:start] + box)
    assert read_record(clip) == record
    with pytest.raises(JobError, match="made"):
        read_record(without_tags(clip))


def test_a_box_of_another_program_is_not_taken_for_ours(clip):
    cleared = without_tags(clip)
    data = cleared.read_bytes()
    start = own_box(data)
    foreign = struct.pack(">I4s16s", 28, b"uuid", b"another program.") + b"text"
    cleared.write_bytes(data[:start] + foreign + data[start:])
    assert read_record(cleared) == read_record(clip)
    cleared.write_bytes(data[:start] + foreign)
    with pytest.raises(JobError, match="does not contain a recipe"):
        read_record(cleared)


# The poster


@pytest.mark.parametrize("prompt", ["A clip", "ü" * 4000, "雨" * 4000])
def test_a_poster_holds_the_recipe(tmp_path, prompt):
    texts = {"video_negative_prompt": prompt, "audio_negative_prompt": prompt}
    path = write_clip(make_clip(prompt=prompt, **texts), tmp_path)
    poster = path.with_suffix(".jpg")
    assert read_record(poster) == read_record(path)
    assert read_spec(poster, tmp_path) == read_spec(path, tmp_path)
    with Image.open(poster) as image:
        image.load()
        assert image.size == (64, 32)


def test_a_poster_asks_for_the_first_frame_of_its_clip(pictured, tmp_path):
    with pytest.raises(FirstFrameMissing, match="choose the picture again"):
        read_spec(pictured.with_suffix(".jpg"), tmp_path)


def test_a_comment_of_another_program_in_the_poster_disturbs_nothing(clip):
    poster = clip.with_suffix(".jpg")
    data = poster.read_bytes()
    comment = b"\xff\xfe" + struct.pack(">H", 2 + 5) + b"hello"
    poster.write_bytes(data[:20] + comment + data[20:])
    assert read_record(poster) == read_record(clip)


def test_a_poster_that_was_saved_anew_is_refused_with_a_sentence(clip):
    poster = clip.with_suffix(".jpg")
    with Image.open(poster) as image:
        again = Image.fromarray(np.asarray(image))
    again.save(poster)
    with pytest.raises(JobError, match="does not contain a recipe"):
        read_record(poster)


def test_a_poster_made_later_holds_the_recipe_too(clip, tmp_path):
    later = tmp_path / "later.jpg"
    later.write_bytes(clip_files.make_poster(clip))
    assert read_record(later) == read_record(clip)


def test_broken_posters_and_boxes_raise_nothing_but_job_errors(clip, tmp_path):
    random = np.random.default_rng(5)
    cleared, poster = without_tags(clip).read_bytes(), clip.with_suffix(".jpg").read_bytes()
    for whole, first in ((poster, 0), (cleared, own_box(cleared))):
        path = tmp_path / "broken"
        for attempt in range(40):
            data = bytearray(whole[: random.integers(first, len(whole))] if attempt % 2 else whole)
            for position in random.integers(min(first, len(data) - 1), len(data), 8):
                data[position] = random.integers(256)
            path.write_bytes(data)
            with contextlib.suppress(JobError):
                assert isinstance(json.dumps(read_record(path)), str)
