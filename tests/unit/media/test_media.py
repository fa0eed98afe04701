"""Clips as files: what is written comes back, nothing is overwritten, nothing half-written stays."""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import av
import numpy as np
import pytest
from clip_reading import read_frames, read_samples
from PIL import Image
from places import ROOT, SUPPORT

from ovi_studio import __version__
from ovi_studio.core.clip import Clip, Picture
from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.media import clip_files
from ovi_studio.media.clip_names import check_name_free
from ovi_studio.media.pictures import decode_picture

FRAMES, HEIGHT, WIDTH = 25, 64, 96
SAMPLES = 16_400


def make_clip(picture: Picture | None = None, **settings) -> Clip:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    frames = [np.stack([rows * 3, columns * 2, rows + columns + 2 * t], axis=-1) for t in range(FRAMES)]
    sound = 0.4 * np.sin(2 * np.pi * 440 * np.arange(SAMPLES) / 16_000)
    image = Path("/home/somebody/private/first frame.png") if picture else None
    settings = {"prompt": "A <S>small<E> clip", "variant": "960x960_5s", "image": image, "seed": 7} | settings
    return Clip(
        spec=ClipSpec(**settings),
        frames=np.stack(frames).astype(np.uint8),
        samples=sound.astype(np.float32),
        picture=picture,
        record={"seconds": 1.5, "checkpoints": {"transformer": "00ff"}},
    )


def tiny_clip(**settings) -> Clip:
    clip = make_clip(**settings)
    return dataclasses.replace(clip, frames=clip.frames[:2, :32, :32], samples=clip.samples[:1400])


def encoded_picture(kind: str, size: tuple[int, int] = (40, 30), **options) -> Picture:
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind, **options)
    return decode_picture(buffer.getvalue(), "test")


def foreign_mp4(path: Path, comment: str | None) -> Path:
    """An mp4 with the given comment that another program could have written."""
    with av.open(str(path), "w") as container:
        if comment is not None:
            container.metadata["comment"] = comment
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def clip_path(tmp_path_factory) -> Path:
    return clip_files.write_clip(make_clip(encoded_picture("PNG")), tmp_path_factory.mktemp("clips"))


# Picture and sound


def test_frames_come_back_nearly_as_they_were(clip_path):
    frames = read_frames(clip_path)
    assert frames.shape == (FRAMES, HEIGHT, WIDTH, 3)
    assert frames.dtype == np.uint8
    error = frames.astype(float) - make_clip().frames
    assert np.sqrt(np.mean(error**2)) < 3


@pytest.mark.slow
def test_the_same_frames_give_the_same_file_whatever_lay_in_memory_before(tmp_path):
    random = np.random.default_rng(0)
    time, y, x = np.mgrid[:17, :64, :64]
    waves = [np.sin((x + 3 * time) / 5), np.sin((y + 2 * time) / 7), np.sin((x + y + time) / 6)]
    base = 128 + 60 * np.stack(waves, axis=-1) + random.normal(0, 5, (17, 64, 64, 3))
    clip = make_clip()
    files = set()
    for _ in range(12):
        for size in random.integers(1000, 400_000, 12):
            np.full(size, random.integers(256), np.uint8)  # what is freed is not wiped
        frames = np.clip(base, 0, 255).astype(np.uint8)
        files.add(clip_files.write_clip(dataclasses.replace(clip, frames=frames), tmp_path).read_bytes())
    assert len(files) == 1


def test_samples_come_back_in_time_and_nearly_as_they_were(clip_path):
    samples, original = read_samples(clip_path), make_clip().samples
    assert samples.shape == original.shape
    assert samples.dtype == np.float32
    assert np.mean((samples - original) ** 2) < 0.001 * np.mean(original**2)


def test_samples_out_of_range_are_clipped(tmp_path):
    clip = make_clip()
    loud = clip_files.write_clip(dataclasses.replace(clip, samples=clip.samples * 5), tmp_path)
    assert np.abs(read_samples(loud)).max() < 1.3


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_samples_that_are_no_numbers_are_refused_before_anything_is_written(tmp_path, value):
    samples = make_clip().samples
    samples[100] = value
    with pytest.raises(JobError, match="the sound are NaN or infinite"):
        clip_files.write_clip(dataclasses.replace(make_clip(), samples=samples), tmp_path)
    assert not list(tmp_path.iterdir())


def test_flat_colours_come_back_without_a_shift(tmp_path):
    colours = np.random.default_rng(1).integers(0, 256, (4, 6, 3), np.uint8)
    frame = colours.repeat(16, axis=0).repeat(16, axis=1)
    clip = dataclasses.replace(make_clip(), frames=np.stack([frame] * 5))
    error = read_frames(clip_files.write_clip(clip, tmp_path))[2, 8::16, 8::16].astype(int) - colours
    assert np.abs(error).max() <= 5
    assert np.abs(error.mean(axis=(0, 1))).max() < 1


def test_streams_are_what_every_browser_plays(clip_path):
    with av.open(str(clip_path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (video.average_rate, video.frames, video.start_time) == (24, FRAMES, 0)
        assert (audio.codec_context.name, audio.rate, audio.channels) == ("aac", 16_000, 1)
        frame = next(container.decode(video=0))
    assert (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range) == (1, 1, 1, 1)


def test_index_stands_before_the_data_so_that_playing_starts_at_once(clip_path):
    data = clip_path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_same_clip_gives_the_same_bytes(clip_path, tmp_path):
    again = clip_files.write_clip(make_clip(encoded_picture("PNG")), tmp_path)
    assert again.read_bytes() == clip_path.read_bytes()


def test_poster_is_a_jpeg_of_the_clip(clip_path):
    with Image.open(clip_path.with_suffix(".jpg")) as poster:
        assert (poster.format, poster.size) == ("JPEG", (WIDTH, HEIGHT))
        error = np.asarray(poster).astype(float) - make_clip().frames[12]
    assert np.sqrt(np.mean(error**2)) < 10


# The recipe


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


# Names


@pytest.mark.parametrize(
    ("prompt", "stem"),
    [
        ("A man says <S>Hello!<E> loudly.", "A_man_says_Hello_loudly"),
        ("../../etc/passwd", "etc_passwd"),
        ("..", "clip"),
        ('C:\\x<>:"|?*\x00\x1f', "C_x"),
        ("🙂", "clip"),
        ("Füße, 日本語, हिन्दी", "Füße_日本語_हिन्दी"),
        ("word " * 30, "word_" * 9 + "word"),
        ("<AUDCAP>rain<ENDAUDCAP>", "rain"),
    ],
)
def test_name_is_a_readable_part_of_the_prompt_with_size_and_seed(tmp_path, prompt, stem):
    path = clip_files.write_clip(tiny_clip(prompt=prompt), tmp_path)
    assert path == tmp_path / f"{stem}_32x32_7.mp4"
    assert path.is_file()


@pytest.mark.parametrize(
    ("name", "stem"), [("job 12", "job_12"), ("../up", "up"), (".hidden", "hidden"), ("NUL", "clip")]
)
def test_given_name_is_made_safe(tmp_path, name, stem):
    assert clip_files.write_clip(tiny_clip(), tmp_path, name) == tmp_path / f"{stem}.mp4"


def test_a_file_name_that_is_given_is_kept_as_it_is(tmp_path):
    path = tmp_path / "My clip (final).v2.MP4"
    assert clip_files.write_clip_as(tiny_clip(), path) == path
    assert clip_files.read_spec(path, tmp_path) == tiny_clip().spec
    before = path.read_bytes()
    # If another process has taken the name while the clip was made, the clip is not lost.
    assert clip_files.write_clip_as(tiny_clip(), path) == tmp_path / "My clip (final).v2_2.MP4"
    assert path.read_bytes() == before


@pytest.mark.parametrize("taken", ["a.mp4", "a.jpg", "a.mp4.part"])
def test_a_name_that_is_taken_is_refused_by_the_file_that_takes_it(tmp_path, taken):
    check_name_free(tmp_path / "a.mp4")
    (tmp_path / taken).touch()
    with pytest.raises(JobError, match=f"{taken} exists and is never replaced"):
        check_name_free(tmp_path / "a.mp4")


def test_longest_name_fits_into_a_file_system(tmp_path):
    path = clip_files.write_clip(tiny_clip(prompt="\U00020000" * 100, seed=2**63 - 1), tmp_path)
    assert len((path.name + ".part").encode()) < 255


def test_nothing_is_overwritten(tmp_path):
    taken = [tmp_path / "a.mp4", tmp_path / "a_2.jpg", tmp_path / "a_3.mp4.part"]
    for path in taken:
        path.write_text("somebody's")
    assert clip_files.write_clip(tiny_clip(), tmp_path, "a") == tmp_path / "a_4.mp4"
    assert clip_files.write_clip(tiny_clip(), tmp_path, "a") == tmp_path / "a_5.mp4"
    assert all(path.read_text() == "somebody's" for path in taken)


def run_python(code: str, *arguments: object) -> subprocess.Popen:
    """A child that can make clips with this module's helpers."""
    prelude = f"import sys; sys.path[:0] = {[str(Path(__file__).parent), str(SUPPORT), str(ROOT)]!r}\n"
    prelude += "from test_media import *\n"
    command = [sys.executable, "-c", prelude + textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_processes_never_take_the_same_name(tmp_path):
    code = """
        clip = tiny_clip()
        for _ in range(15):
            print(clip_files.write_clip(clip, sys.argv[1], "same").name)
    """
    children = [run_python(code, tmp_path) for _ in range(2)]
    names = [name for child in children for name in child.communicate(timeout=60)[0].split()]
    assert len(set(names)) == 30
    assert sorted(path.name for path in tmp_path.glob("*.mp4")) == sorted(names)
    assert not list(tmp_path.glob("*.part"))
    assert all(clip_files.read_record(tmp_path / name) for name in names)


# When it cannot be written


def assert_fails_and_leaves_nothing(directory: Path, match: str) -> None:
    with pytest.raises(JobError, match=match):
        clip_files.write_clip(make_clip(), directory)
    assert not [path for path in directory.iterdir() if path.name != "filler"]


def test_full_disk_fails_the_clip_and_leaves_nothing(tmp_path):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        (tmp_path / "filler").write_bytes(bytes(60_000))
        assert_fails_and_leaves_nothing(tmp_path, "MB are free in the output folder|no space left")
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no limit of file sizes on Windows")
def test_file_that_may_not_grow_fails_the_clip_and_leaves_nothing(tmp_path):
    child = run_python(
        """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        assert_fails_and_leaves_nothing(Path(sys.argv[1]), "no space left")
        print("done")
        """,
        tmp_path,
    )
    assert child.communicate(timeout=60)[0] == "done\n"


@pytest.mark.parametrize("written", [0, 1])
def test_interrupt_leaves_nothing(tmp_path, monkeypatch, written):
    """Of the two files, none or the first has been written when the interrupt comes."""
    synced = []

    def interrupt(descriptor):
        if len(synced) == written:
            raise KeyboardInterrupt
        synced.append(descriptor)

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        clip_files.write_clip(tiny_clip(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_folder_below_a_file_is_refused_with_advice(tmp_path):
    (tmp_path / "file").touch()
    for directory in (tmp_path / "file", tmp_path / "file" / "folder"):
        with pytest.raises(JobError, match="choose another"):
            clip_files.write_clip(tiny_clip(), directory)
        with pytest.raises(JobError, match="choose another"):
            clip_files.check_writable(directory)


def test_a_read_only_folder_is_refused_with_advice(tmp_path):
    tmp_path.chmod(0o500)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("rights do not bind this user")
        with pytest.raises(JobError, match="cannot be written"):
            clip_files.check_writable(tmp_path)
    finally:
        tmp_path.chmod(0o700)


def test_check_makes_the_folder_and_leaves_it_empty(tmp_path):
    clip_files.check_writable(tmp_path / "a" / "b")
    assert not list((tmp_path / "a" / "b").iterdir())


def test_check_refuses_a_nearly_full_disk(tmp_path, monkeypatch):
    usage = clip_files.shutil.disk_usage(tmp_path)._replace(free=5 * 2**20)
    monkeypatch.setattr(clip_files.shutil, "disk_usage", lambda directory: usage)
    with pytest.raises(JobError, match="Only 5 MB are free"):
        clip_files.check_writable(tmp_path)
