"""Clips in other formats: sound, stills and loops are what the clip shows, for as long as it does."""

import io
import wave
import zipfile
from pathlib import Path

import av
import numpy as np
import pytest
from clip_reading import read_frames, read_samples
from PIL import Image, ImageSequence
from stored_clips import make_clip

from ovi_studio.__main__ import main
from ovi_studio.core.errors import JobError
from ovi_studio.media.exports import ExportOptions, export


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips"), frames=25, size=(64, 96))


def test_wav_has_every_sample_of_the_clip(clip):
    with wave.open(io.BytesIO(export(clip, "wav", ExportOptions()))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16_000)
        found = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767
    expected = read_samples(clip)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-4


@pytest.mark.parametrize("number", [0, 7, 24, -1])
def test_still_is_the_exact_frame(clip, number):
    picture = Image.open(io.BytesIO(export(clip, "png", ExportOptions(frame=number))))
    assert np.array_equal(np.asarray(picture), read_frames(clip)[number])


@pytest.mark.parametrize(("milliseconds", "number"), [(0, 0), (41, 0), (42, 1), (500, 12), (60_000, 24)])
def test_still_of_a_moment_is_the_frame_that_is_shown_then(clip, milliseconds, number):
    picture = Image.open(io.BytesIO(export(clip, "png", ExportOptions(milliseconds=milliseconds))))
    assert np.array_equal(np.asarray(picture), read_frames(clip)[number])


@pytest.mark.parametrize("number", [25, -26])
def test_frame_that_is_not_there_is_refused_with_those_that_are(clip, number):
    with pytest.raises(JobError, match="frames 0 to 24"):
        export(clip, "png", ExportOptions(frame=number))


@pytest.mark.parametrize(("kind", "frames"), [("gif", 13), ("webp", 25)])
def test_loop_lasts_as_long_as_the_clip_and_repeats(clip, kind, frames):
    loop = Image.open(io.BytesIO(export(clip, kind, ExportOptions(side=48))))
    pictures = [(np.asarray(frame.convert("RGB")), frame.info["duration"]) for frame in ImageSequence.Iterator(loop)]
    shown = [(duration, pixels) for pixels, duration in pictures]
    assert len(shown) == frames
    assert abs(sum(duration for duration, _ in shown) - 1000 * 25 / 24) <= 10
    assert loop.size == (48, 32)
    assert loop.info["loop"] == 0
    last = np.asarray(Image.fromarray(read_frames(clip)[-1]).resize((48, 32), Image.Resampling.LANCZOS)).astype(int)
    assert np.abs(shown[-1][1].astype(int) - last).mean() < 12


@pytest.mark.parametrize("side", [0, 5000])
def test_size_of_a_loop_has_limits(side):
    with pytest.raises(JobError, match="16 to 4096"):
        ExportOptions(side=side)


def copy(clip: Path, path: Path, *, sound: bool = True, recipe: bool = True) -> None:
    """Copy the streams, as another program would."""
    with av.open(str(clip)) as source, av.open(str(path), "w", format="mp4") as target:
        if recipe:
            target.metadata["comment"] = source.metadata["comment"]
        kept = [source.streams.video[0], *(source.streams.audio if sound else ())]
        streams = {stream.index: target.add_stream_from_template(stream) for stream in kept}
        for packet in source.demux(*kept):
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)


BROKEN = {
    "text": (lambda clip, path: path.write_text("no clip"), "does not contain a recipe"),
    "empty": (lambda clip, path: path.write_bytes(b""), "does not contain a recipe"),
    "folder": (lambda clip, path: path.mkdir(), "no clip"),
    "gone": (lambda clip, path: None, "no clip"),
    "foreign": (lambda clip, path: copy(clip, path, recipe=False), "does not contain a recipe"),
    "silent": (lambda clip, path: copy(clip, path, sound=False), "has no sound"),
    "half": (lambda clip, path: path.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2]), "broken"),
    "most": (
        lambda clip, path: path.write_bytes(clip.read_bytes()[: clip.stat().st_size * 4 // 5]),
        "broken|ends after",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("kind", ["wav", "png", "gif", "webp"])
def test_what_is_no_whole_clip_is_refused_with_a_sentence(clip, tmp_path, kind, name):
    spoil, reason = BROKEN[name]
    spoil(clip, tmp_path / "it.mp4")
    with pytest.raises(JobError, match=reason):
        export(tmp_path / "it.mp4", kind, ExportOptions(frame=-1))


# The command


def test_command_writes_beside_the_clip_and_never_replaces_a_file(tmp_path, capsys):
    clip = make_clip(tmp_path, frames=3)
    assert main(["export", str(clip), "--as", "png", "--frame", "-1"]) == 0
    still = tmp_path / f"{clip.stem}_-1.png"
    before = still.read_bytes()
    assert capsys.readouterr().out.strip() == str(still)
    assert main(["export", str(clip), str(tmp_path / "gone.mp4"), "--as", "png", "--frame", "-1"]) == 1
    said = capsys.readouterr().err
    assert "never replaced" in said
    assert "no clip" in said
    assert still.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 3


def test_command_zips_clips_with_their_settings(tmp_path, capsys):
    clips = [make_clip(tmp_path, f"clip {number}", frames=2) for number in range(2)]
    target = tmp_path / "all.zip"
    assert main(["export", *map(str, clips), "--as", "zip", "--out", str(target)]) == 0
    with zipfile.ZipFile(target) as archive:
        assert archive.namelist() == ["settings.csv", *(clip.name for clip in clips)]
        assert archive.read(clips[0].name) == clips[0].read_bytes()
    (tmp_path / "text.mp4").write_text("no clip")
    assert main(["export", str(tmp_path / "text.mp4"), "--as", "zip", "--out", str(tmp_path / "bad.zip")]) == 1
    assert not list(tmp_path.glob("bad.zip*"))
