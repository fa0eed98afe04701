"""Timelines for editors are read back equal, with media relative to them."""

from pathlib import Path
from urllib.parse import unquote

import opentimelineio as otio
import pytest
from film_shots import write_shot

from ovi_studio.core import extras
from ovi_studio.core.errors import JobError
from ovi_studio.film.cut import CutList, CutShot
from ovi_studio.film.timeline import write_timeline


@pytest.fixture
def cut(tmp_path: Path) -> CutList:
    folder = tmp_path / "my clips"
    clips = [write_shot(folder, [50] * count, prompt=name) for count, name in ((48, "one"), (30, "two"), (36, "three"))]
    shots = (CutShot(clips[0], "Opening"), CutShot(clips[1], fade_ms=250), CutShot(clips[2], "The end", continues=True))
    return CutList("A film", shots)


def spans(track: otio.schema.Track) -> list[tuple[str, int, int]]:
    """Name, first frame and number of frames of each clip."""
    return [
        (clip.name, int(clip.source_range.start_time.value), int(clip.source_range.duration.value))
        for clip in track.find_clips()
    ]


WANTED = [("Opening", 0, 42), ("Shot 2", 0, 30), ("The end", 1, 35)]


def test_a_timeline_is_read_back_equal(tmp_path, cut):
    write_timeline(cut, tmp_path / "film.otio")
    found = otio.adapters.read_from_file(str(tmp_path / "film.otio"))
    assert found.name == "A film"
    assert [track.kind for track in found.tracks] == ["Video", "Audio"]
    for track in found.tracks:
        assert spans(track) == WANTED
        assert track.trimmed_range().duration == otio.opentime.RationalTime(42 + 30 + 35, 24)
        fade = track[1]
        assert isinstance(fade, otio.schema.Transition)
        assert (fade.in_offset.value, fade.out_offset.value) == (0, 6)
        for clip, shot in zip(track.find_clips(), cut.shots, strict=True):
            url = clip.media_reference.target_url
            assert not Path(unquote(url)).is_absolute()
            assert (tmp_path / unquote(url)).samefile(shot.clip)
        # Under the fade the first shot goes on.
        assert track[0].media_reference.available_range.duration.value == 48


def test_an_edl_is_read_back_with_every_shot_and_its_fade(tmp_path, cut):
    write_timeline(cut, tmp_path / "film.edl")
    (track,) = otio.adapters.read_from_file(str(tmp_path / "film.edl"), rate=24).tracks
    assert spans(track) == WANTED
    fade = next(item for item in track if isinstance(item, otio.schema.Transition))
    assert (fade.in_offset.value, fade.out_offset.value) == (0, 6)
    text = (tmp_path / "film.edl").read_text()
    for shot in cut.shots:
        assert f"my%20clips/{shot.clip.name}" in text
    assert str(tmp_path) not in text


def test_fcpxml_is_read_back_with_every_shot(tmp_path, cut):
    write_timeline(cut, tmp_path / "film.fcpxml")
    found = otio.adapters.read_from_file(str(tmp_path / "film.fcpxml"))
    stack = found.tracks if isinstance(found, otio.schema.Timeline) else found[0].tracks
    assert [spans(track) for track in stack] == [WANTED, WANTED]
    names = {clip.media_reference.target_url for clip in stack.find_clips()}
    assert names == {f"my%20clips/{shot.clip.name}" for shot in cut.shots}


def test_another_format_is_refused_and_a_missing_package_named(tmp_path, cut, monkeypatch):
    with pytest.raises(JobError, match=r"let its name end in \.otio, \.edl, \.fcpxml"):
        write_timeline(cut, tmp_path / "film.xml")

    def missing(module: str) -> None:
        raise ImportError(f"No module named {module!r}")

    monkeypatch.setattr(extras.importlib, "import_module", missing)
    with pytest.raises(JobError, match=r"needs the package opentimelineio.*extra `film` with `pip install"):
        write_timeline(cut, tmp_path / "film.otio")
    assert not list(tmp_path.glob("film.*"))
