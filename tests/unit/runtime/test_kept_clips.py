"""Clips that keep a part of another clip, a video or a sound: exact, recorded, made again, and refusals."""

import dataclasses
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from clip_reading import read_frames, read_samples
from foreign_files import still, tone, write_sound, write_video
from training_helpers import own_clip

from ovi_studio.core.clip import Clip
from ovi_studio.core.errors import JobError
from ovi_studio.core.spans import ALL, NOTHING, all_but, parse_spans
from ovi_studio.core.spec import ClipSpec
from ovi_studio.media import foreign
from ovi_studio.media.clip_files import read_record, read_spec, write_clip
from ovi_studio.media.sources import read_source
from ovi_studio.runtime.pipeline import Pipeline

SPEC = ClipSpec(prompt="a red ball", variant="tiny", steps=2, seed=7)
SECONDS = 17 / 24


def with_(source: Path, **changes: object) -> ClipSpec:
    return dataclasses.replace(SPEC, source=source, **changes)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return own_clip(tmp_path, "source", 3, caption=None)


def same(one: Clip, other: Clip) -> bool:
    return np.array_equal(one.frames, other.frames) and np.array_equal(one.samples, other.samples)


def last_latents(pipeline: Pipeline, spec: ClipSpec) -> tuple[torch.Tensor, torch.Tensor]:
    """The latents that were decoded."""
    decoded = {}
    video, audio = pipeline.decoder.video, pipeline.decoder.audio
    pipeline.decoder.video = lambda latents, *rest: decoded.update(video=latents) or video(latents, *rest)
    pipeline.decoder.audio = lambda latents: decoded.update(audio=latents) or audio(latents)
    try:
        pipeline(spec)
    finally:
        pipeline.decoder.video, pipeline.decoder.audio = video, audio
    return decoded["video"], decoded["audio"]


@pytest.mark.slow
def test_new_sound_for_a_picture_that_stays_the_files_own(tiny_pipeline: Pipeline, source: Path) -> None:
    clip = tiny_pipeline(with_(source, keep_picture=ALL))
    assert np.array_equal(clip.frames, read_frames(source))
    assert clip.samples.std() > 0
    assert not np.allclose(clip.samples, tiny_pipeline(SPEC).samples)  # it follows the picture
    assert clip.record["source"]["picture"] == {"kept_latents": 5, "latents": 5, "unchanged": True}
    assert clip.record["source"]["sound"] is None


def test_a_new_picture_for_sound_that_stays_the_files_own(tiny_pipeline: Pipeline, source: Path) -> None:
    clip = tiny_pipeline(with_(source, keep_sound=ALL))
    expected = np.pad(read_samples(source), (0, 22 * 512))[: 22 * 512]
    assert np.allclose(clip.samples, expected, atol=1e-4)
    assert not np.array_equal(clip.frames, read_frames(source))


@pytest.mark.slow
def test_a_span_is_made_again_and_the_rest_is_kept_to_the_bit(tiny_pipeline: Pipeline, source: Path) -> None:
    spec = with_(source, keep_picture=all_but(0.2, 0.4), keep_sound=all_but(0.2, 0.4), seed=8)
    found = read_source(spec, tiny_pipeline.variant)
    assert found is not None
    kept = tiny_pipeline.encode_source(spec, found)
    video, audio = last_latents(tiny_pipeline, spec)
    assert kept.video is not None
    assert kept.audio is not None
    # Of 24 frames a second, 0.2 to 0.4 s touch frames 4 to 9, in latent frames 1 to 3; and audio latents of 32 ms.
    assert kept.video.mask.flatten().tolist() == [True, False, False, False, True]
    assert kept.audio.mask.flatten().tolist() == [True] * 6 + [False] * 7 + [True] * 9
    for latents, stream in ((video, kept.video), (audio, kept.audio)):
        mask = stream.mask.expand_as(latents)
        assert torch.equal(latents[mask], stream.clean[mask])
        assert (latents - stream.clean)[~mask].abs().mean() > 0.05


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 64), (32, 96), (96, 32), (64, 96)])
def test_a_source_of_any_size_that_clips_have_keeps_its_size(
    tiny_pipeline: Pipeline, tmp_path: Path, size: tuple[int, int]
) -> None:
    video = write_video(tmp_path / "a.mp4", still(17, *size))
    clip = tiny_pipeline(with_(video, keep_picture=ALL, steps=1))
    assert clip.frames.shape[1:3] == size


def test_video_from_outside_is_cut_and_brought_to_the_clips_rate_and_size(
    tiny_pipeline: Pipeline, tmp_path: Path
) -> None:
    video = write_video(tmp_path / "long.mkv", still(60, 90, 150), rate=30)
    clip = tiny_pipeline(with_(video, keep_picture=ALL, steps=1))
    assert clip.frames.shape == (17, 64, 96, 3)
    assert int(clip.frames[-1].mean()) == pytest.approx(120 + 60 * 16 / 24 / 2, abs=3)


def test_a_variable_frame_rate_keeps_each_picture_at_its_time(tiny_pipeline: Pipeline, tmp_path: Path) -> None:
    frames = np.repeat(still(1, 64, 64, 40), 9, axis=0)
    frames[1:] = 200
    video = write_video(tmp_path / "variable.mkv", frames, times=[0, *range(9, 17)])
    clip = tiny_pipeline(with_(video, keep_picture=ALL, steps=1))
    levels = clip.frames.mean(axis=(1, 2, 3))
    assert (levels[:9] < 50).all()
    assert (levels[9:] > 190).all()


def test_minutes_of_a_source_are_read_only_as_far_as_the_clip_goes(tiny_pipeline: Pipeline, tmp_path: Path) -> None:
    long = write_video(tmp_path / "long.mp4", still(4 * 240, 64, 64), rate=4, sound=tone(240, 44_100))
    data = bytearray(long.read_bytes())
    index = data.rindex(b"moov") - 4
    data[index // 2 : index] = bytes(index - index // 2)  # whatever reads on fails
    long.write_bytes(data)
    spec = with_(long, keep_picture=ALL)
    tracemalloc.start()
    try:
        read = read_source(dataclasses.replace(spec, strength=0.5), tiny_pipeline.variant)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert read is not None
    assert read.frames is not None
    assert read.samples is not None
    whole = 64 * 64 * 3 * 4 * 240
    assert peak < whole / 4, "the file is hashed in blocks of a megabyte"
    with pytest.raises(JobError, match="cannot be decoded"):
        foreign.read_picture(long, 64, 64, 240 * 24)


def test_a_short_video_holds_its_last_frame_and_short_sound_ends_in_silence(
    tiny_pipeline: Pipeline, tmp_path: Path
) -> None:
    video = write_video(tmp_path / "short.mp4", still(6, 64, 64))
    clip = tiny_pipeline(with_(video, keep_picture=ALL, steps=1))
    assert (clip.frames[5:] == clip.frames[5]).all()
    sound = write_sound(tmp_path / "short.wav", tone(0.3, 48_000), 48_000)
    clip = tiny_pipeline(with_(sound, keep_sound=ALL, steps=1))
    assert np.abs(clip.samples[1000:4000]).max() == pytest.approx(0.5, abs=0.02)
    assert np.abs(clip.samples[5200:]).max() < 1e-3


@pytest.mark.parametrize(("name", "codec", "rate"), [("a.flac", "flac", 44_100), ("a.mp3", "libmp3lame", 48_000)])
def test_sound_of_another_format_and_rate_is_kept(
    tiny_pipeline: Pipeline, tmp_path: Path, name: str, codec: str, rate: int
) -> None:
    path = tmp_path / name
    try:
        write_sound(path, tone(1, rate), rate, codec)
    except Exception as error:
        pytest.skip(f"this PyAV does not write {codec}: {error}")
    samples = tiny_pipeline(with_(path, keep_sound=ALL, steps=1)).samples
    crossings = int((np.diff(np.signbit(samples[2000:10_000]).astype(int)) != 0).sum())
    assert crossings == pytest.approx(2 * 440 / 2, abs=3)


@pytest.mark.slow
def test_a_start_from_the_clips_own_latents_stays_near_it(tiny_pipeline: Pipeline, source: Path) -> None:
    spec = with_(source, strength=0.3, steps=10)
    found = read_source(spec, tiny_pipeline.variant)
    assert found is not None
    clean = tiny_pipeline.encode_source(spec, found).video
    assert clean is not None
    near, far = (
        float(
            (last_latents(tiny_pipeline, with_(source, strength=strength, steps=10))[0] - clean.clean).square().mean()
        )
        for strength in (0.1, 0.9)
    )
    assert near < 0.5 * far


@pytest.mark.slow
def test_the_same_spec_makes_the_same_clip_and_another_seed_another(tiny_pipeline: Pipeline, source: Path) -> None:
    spec = with_(source, keep_sound=ALL, resamples=1)
    assert same(tiny_pipeline(spec), tiny_pipeline(spec))
    assert not same(tiny_pipeline(spec), tiny_pipeline(dataclasses.replace(spec, seed=8)))


# The record, and making the clip again


@pytest.mark.slow
def test_the_file_names_its_source_without_its_folder_and_makes_the_clip_again(
    tiny_pipeline: Pipeline, source: Path, tmp_path: Path
) -> None:
    clip = tiny_pipeline(with_(source, keep_picture=ALL))
    path = write_clip(clip, tmp_path / "made")
    record = read_record(path)
    assert record["spec"]["source"] == "../source.mp4"
    assert record["spec"]["keep_picture"] == "all"
    assert len(record["spec"]["source_sha256"]) == 64
    assert str(tmp_path) not in json.dumps(record)
    again = read_spec(path, tmp_path / "pictures")
    assert again.source_sha256 is not None
    assert same(tiny_pipeline(again), clip)


def test_a_source_that_moved_along_with_the_clip_is_found(
    tiny_pipeline: Pipeline, source: Path, tmp_path: Path
) -> None:
    path = write_clip(tiny_pipeline(with_(source, keep_picture=ALL)), tmp_path / "made")
    source.rename(path.with_name("source.mp4"))
    assert read_spec(path, tmp_path / "pictures").source == path.with_name("source.mp4")


def test_a_source_that_is_gone_or_changed_is_one_sentence(
    tiny_pipeline: Pipeline, source: Path, tmp_path: Path
) -> None:
    path = write_clip(tiny_pipeline(with_(source, keep_picture=ALL)), tmp_path / "made")
    again = read_spec(path, tmp_path / "pictures")
    other = own_clip(tmp_path / "other", "source", 4, caption=None)
    source.write_bytes(other.read_bytes())
    with pytest.raises(JobError, match=r"source\.mp4 is not the file that the clip was made with"):
        tiny_pipeline(again)
    source.unlink()
    with pytest.raises(JobError, match=r"no file source\.mp4; it may have been moved"):
        tiny_pipeline(again)


# Refusals


def test_a_source_without_what_is_kept_is_one_sentence(tiny_pipeline: Pipeline, tmp_path: Path) -> None:
    silent = write_video(tmp_path / "silent.mp4", still(17, 64, 64))
    sound = write_sound(tmp_path / "voice.wav", tone(1, 16_000), 16_000)
    for path, changes, said in (
        (silent, {"keep_sound": ALL}, "silent.mp4 has no sound; keep only its picture"),
        (silent, {"keep_picture": ALL, "strength": 0.5}, "silent.mp4 has no sound"),
        (sound, {"keep_picture": ALL}, "voice.wav has no picture; keep only its sound"),
        (sound, {"strength": 0.5}, "voice.wav has no picture"),
    ):
        with pytest.raises(JobError, match=said):
            tiny_pipeline(with_(path, **changes))


def test_hdr_is_refused_unless_only_its_sound_is_kept(tiny_pipeline: Pipeline, tmp_path: Path) -> None:
    video = write_video(tmp_path / "hdr.mp4", still(17, 64, 64), sound=tone(1, 44_100), trc=16)
    with pytest.raises(JobError, match=r"hdr\.mp4 is HDR video"):
        tiny_pipeline(with_(video, keep_picture=ALL))
    assert np.abs(tiny_pipeline(with_(video, keep_sound=ALL, steps=1)).samples).max() > 0.3


@pytest.mark.parametrize("content", [b"", b"no video", b"\0" * 4000])
def test_a_broken_file_is_one_sentence(tiny_pipeline: Pipeline, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    with pytest.raises(JobError, match=r"^broken\.mp4 cannot be decoded .*export it again as mp4\.$"):
        tiny_pipeline(with_(path, keep_picture=ALL))


@pytest.mark.parametrize("size", [200, 1000])
def test_a_truncated_clip_is_one_sentence(tiny_pipeline: Pipeline, source: Path, size: int) -> None:
    source.write_bytes(source.read_bytes()[:size])
    with pytest.raises(JobError, match=r"source\.mp4 "):
        tiny_pipeline(with_(source, keep_picture=ALL, steps=1))


def test_spans_that_keep_nothing_or_everything_are_refused(tiny_pipeline: Pipeline, source: Path) -> None:
    with pytest.raises(JobError, match="keep nothing of the picture"):
        tiny_pipeline(with_(source, keep_picture=parse_spans("2-")))
    everything = parse_spans(f"0-{SECONDS}")
    with pytest.raises(JobError, match="nothing would be made"):
        tiny_pipeline(with_(source, keep_picture=everything, keep_sound=everything))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "Nothing of a.mp4 is used"),
        ({"keep_picture": ALL, "keep_sound": ALL}, "nothing would be made"),
        ({"keep_picture": ALL, "image": Path("b.png")}, "leave out one of them"),
        ({"strength": 0.5, "resamples": 1}, "set them to 0"),
        ({"keep_picture": ALL, "strength": 0}, "strength must be between"),
        ({"keep_picture": ALL, "resamples": 21}, "resamples must be between"),
        ({"source": None, "keep_picture": ALL}, "No source is given"),
        ({"source": None, "strength": 0.5}, "No source is given"),
        ({"keep_picture": NOTHING, "source_sha256": None}, "Nothing of a.mp4 is used"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(JobError, match=said):
        dataclasses.replace(SPEC, **{"source": Path("a.mp4"), **changes})
