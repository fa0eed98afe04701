"""Shots joined into a film: all frames and samples in place, no step at a cut, one loudness, nothing half-written."""

import contextlib
import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clip_reading import read_frames, read_samples
from film_shots import noise, tone, write_shot
from PIL import Image

from ovi_studio.core.errors import JobError, Stopped
from ovi_studio.core.variants import SAMPLE_RATE
from ovi_studio.film import pictures
from ovi_studio.film.cut import CutList, CutShot, lay_out, sample_at
from ovi_studio.film.export import FilmProgress, export_film
from ovi_studio.film.levels import CEILING, LOUDNESS
from ovi_studio.media.clip_files import read_film, read_record, read_spec
from ovi_studio.media.pictures import decode_picture
from ovi_studio.takes.loudness import measure_loudness


def joined(folder: Path, *shots: CutShot) -> Path:
    return export_film(CutList("A film", shots), folder / "film.mp4")


def greys(path: Path) -> list[float]:
    return [round(float(frame.mean())) for frame in read_frames(path)]


def near(found: list[float], wanted: list[float]) -> bool:
    return len(found) == len(wanted) and bool(np.abs(np.subtract(found, wanted)).max() <= 2)


# Picture


def test_frames_follow_each_other_without_the_doubled_first_frame_of_a_continued_shot(tmp_path):
    first = write_shot(tmp_path, [20, 40, 60, 80])
    continued = write_shot(tmp_path, [80, 100, 120])
    other = write_shot(tmp_path, [200, 180])
    film = joined(tmp_path, CutShot(first), CutShot(continued, continues=True), CutShot(other))
    assert near(greys(film), [20, 40, 60, 80, 100, 120, 200, 180])


def test_a_cross_fade_goes_in_equal_steps_and_shares_its_frames(tmp_path):
    dark, bright = write_shot(tmp_path, [40] * 6), write_shot(tmp_path, [200] * 6)
    film = joined(tmp_path, CutShot(dark), CutShot(bright, fade_ms=125))
    assert near(greys(film), [40] * 3 + [80, 120, 160] + [200] * 3)


def test_shots_may_fade_in_and_out_with_no_frame_between(tmp_path):
    clips = [write_shot(tmp_path, [level] * 6) for level in (40, 120, 200)]
    film = joined(tmp_path, *[CutShot(clip, fade_ms=125 * bool(index)) for index, clip in enumerate(clips)])
    assert near(greys(film), [40] * 3 + [60, 80, 100] + [140, 160, 180] + [200] * 3)


# Sound


def test_picture_and_sound_have_exactly_the_same_length(tmp_path):
    # As of Ovi: the sound of five seconds is shorter than its picture, that of ten is longer.
    short = write_shot(tmp_path, [50] * 25, noise(1, 0.1))
    long = write_shot(tmp_path, [60] * 25, noise(1.2, 0.1))
    film = joined(tmp_path, CutShot(short), CutShot(long, fade_ms=250), CutShot(short, continues=True), CutShot(long))
    frames = 25 + 19 + 24 + 25
    assert len(read_frames(film)) == frames
    assert len(read_samples(film)) == round(frames * SAMPLE_RATE / 24)


def test_a_sound_is_where_its_frame_is(tmp_path):
    click = noise(1, 0.01)
    click[8000] = 0.8
    quiet = write_shot(tmp_path, [50] * 24, noise(1, 0.01))
    film = joined(tmp_path, CutShot(quiet), CutShot(write_shot(tmp_path, [90] * 24, click), continues=True))
    # Half a second after the dropped first frame's beginning.
    wanted = sample_at(24) + 8000 - sample_at(1)
    assert abs(int(np.abs(read_samples(film)).argmax()) - wanted) <= 2


@pytest.mark.parametrize(("fade_ms", "most"), [(0, 1.05), (250, 2**0.5)], ids=["cut", "fade"])
def test_the_waveform_has_no_step_at_a_cut(tmp_path, fade_ms, most):
    # Both are cut where the sine is far from zero.
    first = write_shot(tmp_path, [50] * 24, tone(1 - 1 / 1760, 0.3))
    second = write_shot(tmp_path, [90] * 24, -np.roll(tone(1, 0.3, 330), 12))
    film = joined(tmp_path, CutShot(first), CutShot(second, fade_ms=fade_ms))
    steps = np.abs(np.diff(read_samples(film)))
    cut = sample_at(24)
    assert steps[cut - 4400 : cut + 400].max() <= most * max(steps[4000:11000].max(), steps[cut + 1000 : -1000].max())


def test_a_cut_and_a_gap_sound_like_the_room_instead_of_silence(tmp_path):
    def power(samples: np.ndarray) -> float:
        return 10 * np.log10(np.square(samples).mean())

    shots = [CutShot(write_shot(tmp_path, [50] * 24, noise(0.95, 0.05, seed))) for seed in (1, 2)]
    samples = read_samples(joined(tmp_path, *shots))
    room = power(samples[2000:14000])
    for gap in (slice(15300, 16000), slice(sample_at(48) - 700, sample_at(48))):
        assert power(samples[gap]) == pytest.approx(room, abs=2)
    assert power(samples[sample_at(24) - 160 : sample_at(24) + 160]) == pytest.approx(room, abs=2)


def test_a_cross_fade_keeps_the_power_of_sounds_that_differ(tmp_path):
    shots = [
        CutShot(write_shot(tmp_path, [50] * 36, noise(1.5, 0.05, seed)), fade_ms=1000 * (seed - 1)) for seed in (1, 2)
    ]
    samples = read_samples(joined(tmp_path, *shots))
    middle, plain = samples[14000:18000], samples[1000:7000]
    assert 10 * np.log10(np.square(middle).mean() / np.square(plain).mean()) == pytest.approx(0, abs=0.7)


def ffmpeg_loudness(samples: np.ndarray) -> float:
    """LUFS by the independent implementation of BS.1770 in FFmpeg."""
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=SAMPLE_RATE, format="flt", layout="mono", time_base=Fraction(1, SAMPLE_RATE))
    meter, sink = graph.add("ebur128", "metadata=1:peak=none"), graph.add("abuffersink")
    source.link_to(meter)
    meter.link_to(sink)
    graph.configure()
    frame = av.AudioFrame.from_ndarray(samples[np.newaxis], format="flt", layout="mono")
    frame.rate, frame.pts, frame.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
    graph.push(frame)
    graph.push(None)
    found = float("nan")
    while True:
        try:
            found = float(graph.pull().metadata.get("lavfi.r128.I", found))
        except (av.EOFError, av.BlockingIOError):
            return found


@pytest.mark.slow
def test_all_shots_have_one_loudness_by_another_meter_too(tmp_path):
    levels = (0.06, 0.1, 0.3)
    shots = [CutShot(write_shot(tmp_path, [50] * 48, tone(2, level, 500 * level / 0.1))) for level in levels]
    samples = read_samples(joined(tmp_path, *shots))
    for number in range(3):
        part = samples[sample_at(48 * number) + 800 : sample_at(48 * number + 48) - 800]
        assert measure_loudness(part) == pytest.approx(LOUDNESS, abs=0.5)
        assert ffmpeg_loudness(part) == pytest.approx(LOUDNESS, abs=0.5)


def test_peaks_do_not_clip_and_a_silent_shot_stays_silent(tmp_path):
    peaks = noise(2, 0.02)
    peaks[4000::8000] = 0.7
    silent = np.zeros(32000, np.float32)
    film = joined(tmp_path, *[CutShot(write_shot(tmp_path, [50] * 48, each)) for each in (peaks, silent)])
    samples = read_samples(film)
    assert np.abs(samples[: sample_at(47)]).max() <= CEILING * 1.12
    assert np.abs(samples[sample_at(49) :]).max() < 1e-3


# What is inside


def test_a_film_has_a_chapter_for_each_shot(tmp_path):
    clips = [write_shot(tmp_path, [50] * 12) for _ in range(3)]
    film = joined(tmp_path, CutShot(clips[0], "Opening"), CutShot(clips[1]), CutShot(clips[2], "The end", fade_ms=250))
    with av.open(str(film)) as container:
        chapters = [
            (
                chapter["metadata"]["title"],
                float(chapter["start"] * chapter["time_base"]),
                float(chapter["end"] * chapter["time_base"]),
            )
            for chapter in container.chapters()
        ]
    assert [title for title, _, _ in chapters] == ["Opening", "Shot 2", "The end"]
    assert [time for _, *times in chapters for time in times] == pytest.approx(
        [0, 0.5, 0.5, 0.75, 0.75, 1.25], abs=0.001
    )


def test_each_shot_of_a_film_can_be_made_again_from_it(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (200, 40, 20)).save(buffer, "PNG")
    first = decode_picture(buffer.getvalue(), "test")
    clips = [write_shot(tmp_path, [50] * 4), write_shot(tmp_path, [60] * 4, prompt="Another", picture=first)]
    film = joined(tmp_path, *map(CutShot, clips))
    records = [read_record(clip) for clip in clips]
    specs = [read_spec(clip, tmp_path / "pictures") for clip in clips]
    for clip in clips:
        clip.unlink()
    assert read_film(film) == records
    assert [read_spec(film, tmp_path / "pictures", shot=number) for number in (1, 2)] == specs
    assert specs[1].image is not None
    assert decode_picture(specs[1].image.read_bytes(), "test").sha256 == first.sha256
    with pytest.raises(JobError, match="is a film; choose one of its shots"):
        read_record(film)
    with pytest.raises(JobError, match="choose one from 1 to 2"):
        read_record(film, 3)


def test_a_clip_is_no_film(tmp_path):
    clip = write_shot(tmp_path, [50] * 4)
    assert read_film(clip) == []
    with pytest.raises(JobError, match="is not a film"):
        read_record(clip, 1)


def test_broken_boxes_of_shots_raise_nothing_but_job_errors(tmp_path):
    film = joined(tmp_path, CutShot(write_shot(tmp_path, [50] * 4)), CutShot(write_shot(tmp_path, [60] * 4)))
    whole, random = film.read_bytes(), np.random.default_rng(3)
    start = whole.index(b"uuid") - 4
    for attempt in range(40):
        data = bytearray(whole[: random.integers(start, len(whole))] if attempt % 2 else whole)
        for position in random.integers(start, len(data), 8):
            data[position] = random.integers(256)
        film.write_bytes(data)
        for shot in (1, 2):
            with contextlib.suppress(JobError):
                read_record(film, shot)


# Bad input


def test_a_film_without_shots_and_one_that_begins_with_a_fade_are_refused(tmp_path):
    with pytest.raises(JobError, match="no shots; add one"):
        CutList("A film", ())
    with pytest.raises(JobError, match="first shot follows no other"):
        CutList("A film", (CutShot(tmp_path / "a.mp4", fade_ms=100),))
    with pytest.raises(JobError, match="501 shots"):
        CutList("A film", (CutShot(tmp_path / "a.mp4"),) * 501)


def test_fades_longer_than_their_shot_are_refused():
    shots = (CutShot(Path("a.mp4")), CutShot(Path("b.mp4"), fade_ms=500), CutShot(Path("c.mp4"), fade_ms=500))
    with pytest.raises(JobError, match="Shot 2 has 20 frames, which is less than its fades of 12 and 12"):
        lay_out(CutList("A film", shots), [121, 20, 121])


def foreign(path: Path, rate: int = 24, pixels: str = "yuv420p", sound: bool = True, times: int = 1) -> Path:
    """An mp4 of another program; with `times` above 1, its frames are further and further apart."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 32, pixels
        audio = container.add_stream("aac", rate=44_100, layout="mono") if sound else None
        for index in range(8):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 64, 3), np.uint8), format="rgb24")
            frame.pts = index**times
            frame.time_base = Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio:
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 20_000), np.float32), format="fltp", layout="mono")
            frame.rate = 44_100
            container.mux([*audio.encode(frame), *audio.encode(None)])
    return path


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"rate": 30}, "24 frames a second"),
        ({"pixels": "yuv420p10le"}, "8-bit colours"),
        ({"sound": False}, "has no sound"),
        ({"times": 2}, "24 frames"),
        ({}, "cannot be used: .* does not contain a recipe"),
    ],
    ids=["rate", "hdr", "silent", "variable", "foreign"],
)
def test_a_file_of_another_kind_is_refused_and_named(tmp_path, options, sentence):
    other = foreign(tmp_path / "other.mp4", **options)
    with pytest.raises(JobError, match=f"Shot 2 .*{sentence}"):
        joined(tmp_path, CutShot(write_shot(tmp_path, [50] * 8)), CutShot(other))
    assert not (tmp_path / "film.mp4").exists()


def test_a_shot_of_another_size_or_that_is_gone_or_broken_is_named(tmp_path):
    good = write_shot(tmp_path, [50] * 8)
    wide = write_shot(tmp_path, [50] * 8, size=(32, 96))
    with pytest.raises(JobError, match="Shot 2 is 32x96 and the first shot 32x64"):
        joined(tmp_path, CutShot(good), CutShot(wide))
    with pytest.raises(JobError, match=r"The take of shot 2, gone\.mp4, is gone"):
        joined(tmp_path, CutShot(good), CutShot(tmp_path / "gone.mp4"))
    wide.write_bytes(b"nothing")
    with pytest.raises(JobError, match=r"Shot 2 .* is broken"):
        joined(tmp_path, CutShot(good), CutShot(wide))


def test_a_clip_that_ends_early_leaves_no_film(tmp_path):
    clip = write_shot(tmp_path, list(range(20, 220, 4)))
    with av.open(str(clip)) as container:
        last = [packet for packet in container.demux(video=0) if packet.size][-1]
        data = bytearray(clip.read_bytes())
        data[last.pos : last.pos + last.size] = bytes(last.size)
    clip.write_bytes(data)
    with pytest.raises(JobError, match=r"Shot 1 .* is broken"):
        joined(tmp_path, CutShot(clip))
    assert not list(tmp_path.glob("film*"))


def test_an_export_that_is_stopped_leaves_the_older_film_as_it_was(tmp_path):
    shots = CutList("A film", (CutShot(write_shot(tmp_path, [50] * 12)),))
    target = export_film(shots, tmp_path / "film.mp4")
    before = target.read_bytes()
    with pytest.raises(JobError, match="exists"):
        export_film(shots, target)
    seen: list[FilmProgress] = []

    def stop(progress: FilmProgress) -> None:
        seen.append(progress)
        if progress.frames == 5:
            raise Stopped

    with pytest.raises(Stopped):
        export_film(shots, target, replace=True, on_progress=stop)
    assert seen == [FilmProgress(number, 12) for number in range(1, 6)]
    assert target.read_bytes() == before
    assert not list(tmp_path.glob("*.part"))
    with pytest.raises(JobError, match="is a shot of the film itself"):
        export_film(shots, shots.shots[0].clip, replace=True)


def test_frames_are_decoded_as_they_are_written(tmp_path, monkeypatch):
    decoded: list[int] = []
    decode = pictures._frames

    def counted(here, number):
        for frame in decode(here, number):
            decoded.append(number)
            yield frame

    monkeypatch.setattr(pictures, "_frames", counted)
    clips = [write_shot(tmp_path, [40 + index] * 24) for index in range(3)]
    shots = CutList("A film", tuple(CutShot(clip, fade_ms=250 * bool(index)) for index, clip in enumerate(clips)))
    ahead: list[int] = []
    export_film(shots, tmp_path / "film.mp4", on_progress=lambda done: ahead.append(len(decoded) - done.frames))
    assert len(ahead) == 60
    # Both frames of each blended one.
    assert max(ahead) == ahead[-1] == 12
