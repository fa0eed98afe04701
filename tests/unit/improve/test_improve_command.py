"""`improve` on the command line: every file gets its copy or its reason."""

from pathlib import Path

import pytest
from clip_reading import read_frames
from stored_clips import make_clip

from ovi_studio.__main__ import main


def test_good_files_are_improved_and_bad_ones_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    clip = make_clip(tmp_path / "in", frames=3)
    (tmp_path / "in" / "text.mp4").write_text("no clip")
    files = [str(tmp_path / "in" / "text.mp4"), str(clip)]
    assert main(["improve", *files, "--fps", "48", "--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr()
    (path,) = (tmp_path / "out").glob("*.mp4")
    assert printed.out.split() == [str(path)]
    assert path.stem == f"{clip.stem}_48fps"
    assert "text.mp4 does not contain a recipe" in printed.err
    assert len(read_frames(path)) == 6
    assert len(list((tmp_path / "in").iterdir())) == 3


@pytest.mark.parametrize(
    ("options", "reason"), [([], "Nothing is to be done"), (["--upscale", "x"], "There is no upscaler")]
)
def test_what_cannot_be_done_to_any_file_is_said_once(tmp_path, capsys, options, reason):
    assert main(["improve", "a.mp4", "b.mp4", *options, "--upscaler-dir", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count(reason) == 1
