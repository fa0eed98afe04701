"""Clips as files: what is written comes back, nothing is overwritten, nothing half-written stays."""

import dataclasses
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
from sample_clips import FRAMES, HEIGHT, WIDTH, encoded_picture, make_clip, tiny_clip

from ovi_studio.core.errors import JobError
from ovi_studio.media import clip_files
from ovi_studio.media.clip_names import check_name_free

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
    prelude += "from test_clip_files import *\n"
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
