"""Improved clips: larger and smoother, with the sound, the first frame and the recipe of the original."""

import hashlib
import importlib.util
import io
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clip_reading import read_frames, read_samples
from PIL import Image
from stored_clips import make_clip
from upscaler_files import write_upscaler

from ovi_studio.core.errors import FolderError, JobError, Stopped
from ovi_studio.core.improvement import Improvement
from ovi_studio.improve.improver import ClipImprover, Target
from ovi_studio.improve.upscaler_library import UpscalerLibrary
from ovi_studio.library.probe import probe
from ovi_studio.media.clip_files import read_record, read_spec
from ovi_studio.media.pictures import decode_picture
from ovi_studio.media.xmp_mark import MADE_BY_MODEL, read_source_type

needs_spandrel = pytest.mark.skipif(
    importlib.util.find_spec("spandrel") is None, reason="the extra `improve` is not installed"
)


def ignore(_: float, __: int) -> None:
    pass


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target(tmp_path / "out", "improved", tmp_path / "work", "owner")


@pytest.fixture
def improver(tmp_path: Path) -> ClipImprover:
    return ClipImprover(UpscalerLibrary(tmp_path / "upscalers"), device="cpu")


def sound_packets(path: Path) -> list[tuple[bytes, int | None, int | None]]:
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.dts is not None]
        return [(bytes(packet), packet.pts, packet.duration) for packet in packets]


def durations(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        streams = (container.streams.video[0], container.streams.audio[0])
        return [stream.duration * stream.time_base for stream in streams]


def first_frame() -> object:
    buffer = io.BytesIO()
    Image.fromarray(np.full((30, 40, 3), 90, np.uint8)).save(buffer, "PNG")
    return decode_picture(buffer.getvalue(), "first")


@pytest.mark.slow
@pytest.mark.parametrize(("frames", "fps"), [(25, 48), (25, 60), (24, 60), (1, 48)])
def test_smoothed_clip_keeps_length_and_sound(tmp_path, improver, target, frames, fps):
    clip = make_clip(tmp_path / "out", frames=frames)
    before = clip.read_bytes()
    path = improver.improve(clip, Improvement(fps=fps), target, ignore)
    assert sound_packets(path) == sound_packets(clip)
    assert np.array_equal(read_samples(path), read_samples(clip))
    assert durations(path) == durations(clip)
    assert durations(path)[0] == Fraction(frames, 24)
    assert len(read_frames(path)) == -(-frames * fps // 24)
    assert clip.read_bytes() == before
    assert path.with_suffix(".jpg").is_file()
    assert list((tmp_path / "work").iterdir()) == []


def test_smoothed_clip_shows_the_original_frames_and_motion_between_them(tmp_path, improver, target):
    clip = make_clip(tmp_path / "out", frames=30, size=(96, 160))
    original = read_frames(clip).astype(int)
    smooth = read_frames(improver.improve(clip, Improvement(fps=48), target, ignore)).astype(int)
    assert np.abs(smooth[::2] - original).mean() < 1
    # What lies between two frames is nearer to each than they are to each other, also where two chunks meet.
    apart = np.abs(original[1:] - original[:-1]).mean((1, 2, 3))
    for neighbours in (original[:-1], original[1:]):
        distances = np.abs(smooth[1:-1:2] - neighbours).mean((1, 2, 3)) / apart
        assert distances.max() < 0.97
        assert distances.min() > 0.3  # no copy of it, either


@pytest.mark.slow
@needs_spandrel
def test_larger_clip_has_the_upscaled_frames_and_everything_else_of_the_original(tmp_path, improver, target):
    write_upscaler(tmp_path / "upscalers" / "double.safetensors", 2)
    clip = make_clip(tmp_path / "out", frames=14, first=first_frame(), seed=3)
    path = improver.improve(clip, Improvement("double"), target, ignore, job="b")
    assert read_frames(path).shape == (14, 128, 192, 3)
    assert sound_packets(path) == sound_packets(clip)
    assert Image.open(path.with_suffix(".jpg")).size == (192, 128)
    # The recipe makes the original again, with its first frame, in whatever program it is kept.
    pictures = tmp_path / "pictures"
    assert read_spec(path, pictures) == read_spec(clip, pictures)
    record, before = read_record(path), read_record(clip)
    assert {read_source_type(file) for file in (path, path.with_suffix(".jpg"))} == {MADE_BY_MODEL}
    (done,) = record.pop("improvements")
    assert done["source_sha256"] == hashlib.sha256(clip.read_bytes()).hexdigest()
    assert done["upscaler"] == {
        "name": "double",
        "sha256": hashlib.sha256((tmp_path / "upscalers" / "double.safetensors").read_bytes()).hexdigest(),
        "architecture": "RealESRGAN Compact",
        "scale": 2,
        "dtype": "float32",
    }
    assert record == {**before, "job": "b"}
    assert probe(path).size == (128, 192)


@needs_spandrel
def test_clip_that_was_improved_can_be_improved_again_and_tells_of_both(tmp_path, improver, target):
    write_upscaler(tmp_path / "upscalers" / "same.pth", 1)
    smooth = improver.improve(make_clip(tmp_path / "out", frames=13), Improvement(fps=48), target, ignore)
    path = improver.improve(smooth, Improvement("same"), target, ignore)
    assert path.name == "improved_2.mp4"
    assert len(read_frames(path)) == 26
    assert ["frames_a_second" in done for done in read_record(path)["improvements"]] == [True, False]


@pytest.mark.slow
def test_work_that_was_stopped_goes_on_where_it_was(tmp_path, improver, target):
    clip = make_clip(tmp_path / "out", frames=36)
    whole = improver.improve(clip, Improvement(fps=48), target, ignore).read_bytes()
    (tmp_path / "out" / "improved.mp4").unlink()

    def stop(done: float, total: int) -> None:
        if done > 20:
            raise Stopped

    with pytest.raises(Stopped):
        improver.improve(clip, Improvement(fps=48), target, stop)
    assert not (tmp_path / "out" / "improved.mp4").exists()
    (chunk,) = (tmp_path / "work").rglob("*.mp4")
    written = chunk.stat().st_mtime_ns
    chunks = []

    def look(done: float, total: int) -> None:
        chunks.append({path.name: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*.mp4")})

    path = improver.improve(clip, Improvement(fps=48), target, look)
    assert {found[chunk.name] for found in chunks} == {written}
    # Nothing shows that it was made in two parts.
    assert path.read_bytes() == whole


def test_chunks_of_another_improvement_are_not_continued(tmp_path, improver, target):
    clip = make_clip(tmp_path / "out", frames=24)

    def stop(done: float, total: int) -> None:
        if done > 13:
            raise Stopped

    with pytest.raises(Stopped):
        improver.improve(clip, Improvement(fps=48), target, stop)
    path = improver.improve(clip, Improvement(fps=60), target, ignore)
    assert len(read_frames(path)) == 60
    assert list((tmp_path / "work").iterdir()) == []


def test_full_disk_is_noticed_before_the_work_begins(tmp_path, improver, target, monkeypatch):
    clip = make_clip(tmp_path / "out", frames=24)
    usage = shutil.disk_usage(tmp_path)._replace(free=100 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    size = clip.stat().st_size
    monkeypatch.setattr(Path, "stat", stat_of_large_clips(clip, 40 * 2**20))
    with pytest.raises(FolderError, match="free up 160 MB"):
        improver.improve(clip, Improvement(fps=48), target, ignore)
    assert size < 2**20
    assert not list((tmp_path / "work").rglob("*.mp4"))


def stat_of_large_clips(clip: Path, size: int) -> object:
    import os

    real = Path.stat

    def stat(path: Path, **options: bool) -> os.stat_result:
        found = real(path, **options)
        times = {"st_mtime_ns": found.st_mtime_ns}
        return os.stat_result((*found[:6], size, *found[7:10]), times) if path == clip else found

    return stat


def remux(clip: Path, path: Path, *, sound: bool = True, skip: int = -1) -> None:
    """Copy streams and recipe, as another program would."""
    with av.open(str(clip)) as source, av.open(str(path), "w", format="mp4") as copy:
        copy.metadata["comment"] = source.metadata["comment"]
        kept = [source.streams.video[0], *(source.streams.audio if sound else ())]
        streams = {stream.index: copy.add_stream_from_template(stream) for stream in kept}
        for packet in source.demux(*kept):
            if packet.dts is not None and not (packet.stream.type == "video" and packet.pts == skip):
                packet.stream = streams[packet.stream.index]
                copy.mux(packet)


def test_clips_that_are_not_as_this_app_makes_them_are_refused(tmp_path, improver, target):
    clip = make_clip(tmp_path / "out", frames=14)
    silent, uneven, cut, foreign = (tmp_path / f"{name}.mp4" for name in ("silent", "uneven", "cut", "foreign"))
    remux(clip, silent, sound=False)
    remux(clip, uneven, skip=3 * 512)
    cut.write_bytes(clip.read_bytes()[:-9000])
    with av.open(str(foreign), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    listed = sorted((tmp_path / "out").iterdir())
    for path, reason in (
        (silent, "no sound"),
        (uneven, "constant number of frames"),
        (foreign, "does not contain a recipe"),
        (tmp_path / "missing.mp4", "no clip"),
    ):
        with pytest.raises(JobError, match=reason):
            improver.improve(path, Improvement(fps=48), target, ignore)
    with pytest.raises(JobError):
        improver.improve(cut, Improvement(fps=48), target, ignore)
    assert sorted((tmp_path / "out").iterdir()) == listed


def test_clip_with_as_many_frames_a_second_is_refused(tmp_path, improver, target):
    smooth = improver.improve(make_clip(tmp_path / "out", frames=2), Improvement(fps=48), target, ignore)
    with pytest.raises(JobError, match="48 frames a second already"):
        improver.improve(smooth, Improvement(fps=48), target, ignore)
