"""Every mp4 and poster says that a model made it, where other programs look for it."""

import contextlib
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from clip_reading import read_frames
from film_shots import write_shot
from PIL import Image

from ovi_studio.core.errors import JobError
from ovi_studio.film.cut import CutList, CutShot
from ovi_studio.film.export import export_film
from ovi_studio.media.clip_files import make_poster, read_record
from ovi_studio.media.frames import POSTER_FRAME
from ovi_studio.media.xmp_mark import MADE_BY_MODEL, read_source_type

needs_exiftool = pytest.mark.skipif(
    shutil.which("exiftool") is None, reason="exiftool is not installed (Debian: libimage-exiftool-perl)"
)


def made(folder: Path) -> dict[str, Path]:
    """One file of each kind that the app writes."""
    clip = write_shot(folder, [60] * 26)
    film = export_film(CutList("A film", (CutShot(clip), CutShot(clip))), folder / "film.mp4")
    later = folder / "later.jpg"
    later.write_bytes(make_poster(clip))
    return {"clip": clip, "poster": clip.with_suffix(".jpg"), "later poster": later, "film": film}


def test_clips_posters_and_films_are_marked(tmp_path):
    files = made(tmp_path)
    assert {kind: read_source_type(path) for kind, path in files.items()} == dict.fromkeys(files, MADE_BY_MODEL)
    assert len(read_frames(files["clip"])) == 26
    with Image.open(files["poster"]) as image:
        assert MADE_BY_MODEL.encode() in image.info["xmp"]
        assert abs(np.asarray(image).mean() - 60) < 2
    assert read_record(files["poster"]) == read_record(files["clip"])
    assert POSTER_FRAME < 26


@pytest.mark.slow
@needs_exiftool
def test_another_program_finds_the_mark(tmp_path):
    files = made(tmp_path)
    command = ["exiftool", "-j", "-G", "-XMP:all", "-validate", "-warning", *map(str, files.values())]
    found = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert [entry["XMP:DigitalSourceType"] for entry in found] == [MADE_BY_MODEL] * len(files)
    assert [entry["XMP:CreatorTool"] for entry in found] == ["Ovi Studio"] * len(files)


def test_a_file_without_a_mark_has_none(tmp_path):
    picture, text = tmp_path / "a.jpg", tmp_path / "a.mp4"
    Image.new("RGB", (8, 8)).save(picture)
    text.write_bytes(b"nothing at all")
    assert (read_source_type(picture), read_source_type(text)) == (None, None)


@needs_exiftool
def test_a_mark_that_another_program_wrote_is_read_too(tmp_path):
    picture = tmp_path / "a.jpg"
    Image.new("RGB", (8, 8)).save(picture)
    kind = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"
    subprocess.run(["exiftool", "-q", f"-XMP-iptcExt:DigitalSourceType={kind}", str(picture)], check=True)
    assert read_source_type(picture) == kind


def test_broken_marks_harm_nothing(tmp_path):
    clip = write_shot(tmp_path, [60] * 4)
    random = np.random.default_rng(2)
    for path in (clip, clip.with_suffix(".jpg")):
        whole = path.read_bytes()
        first = whole.index(b"Iptc4xmpExt") - 400
        for attempt in range(40):
            data = bytearray(whole[: random.integers(first, len(whole))] if attempt % 2 else whole)
            for position in random.integers(max(0, first), len(data), 8):
                data[position] = random.integers(256)
            path.write_bytes(data)
            assert isinstance(read_source_type(path), str | None)
            with contextlib.suppress(JobError):
                read_record(path)
