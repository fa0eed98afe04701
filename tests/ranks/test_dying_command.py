"""`generate` on several ranks, one of which dies: one sentence, an exit status, and the clips that were finished.

These are the clips that one process makes.
"""

import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from clip_reading import read_frames
from processes import is_alive, kill, ranks_of, wait_while, with_children
from rank_helpers import environment
from warm_start import PIPELINES, Forked

from ovi_studio.media.clip_files import read_spec, write_clip
from ovi_studio.runtime.pipeline import Pipeline

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="several ranks need Linux")
STARTING = 240
"""Seconds; three processes import torch, on a machine that may be busy."""
DEFECT = """
import runpy
import ovi_studio.runtime.clip_runner as runner
def follow(self):
    raise RuntimeError("a defect\\nerror: forged")
runner.ClipRunner.follow = follow
runpy.run_module("ovi_studio", run_name="__main__", alter_sys=True)
"""
"""The program, with a defect in the ranks that it forks, but not in their leader."""
SAID = Path("said")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@contextmanager
def generating(bundle: Path, *program: str, **variables: str) -> Iterator[tuple[Forked, IO[str]]]:
    """`generate` of this program on two ranks, and its output; its errors are in the file `SAID`."""
    Path("prompts.csv").write_text("text_prompt,steps\na red ball,2\na blue ball,1000\n")
    command = [*program, "generate", "--prompts", "prompts.csv", "--gpus", "2"]
    command += ["--variant", "tiny", "--ckpt-dir", str(bundle), "--out", "out"]
    reading, writing = os.pipe()
    with os.fdopen(reading) as output, SAID.open("w") as said:
        variables = {**environment(), **variables}
        launcher = PIPELINES.start(*command, environment=variables, stdout=writing, stderr=said.fileno())
        os.close(writing)
        try:
            yield launcher, output
        finally:
            kill(with_children(launcher.pid))


def sentences() -> list[str]:
    """The lines of `SAID` without the progress bar."""
    return [line for line in re.split(r"[\r\n]+", SAID.read_text()) if line.strip() and "| step " not in line]


def test_a_killed_rank_is_one_sentence_and_finished_clips_stay(
    tiny_bundle: Path, tiny_pipeline: Pipeline, tmp_path: Path
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with generating(tiny_bundle, "-m", "ovi_studio", TMPDIR=str(temporary)) as (launcher, output):
        clip = output.readline().strip()
        processes = ranks_of(launcher.pid, "ovi_studio")
        assert len(processes) == 2
        processes[1].send_signal(signal.SIGKILL)
        assert launcher.wait(60) == 128 + signal.SIGKILL
        assert wait_while(lambda: any(map(is_alive, processes)), 10)
    (sentence,) = sentences()
    assert sentence.startswith("error: rank 1 of 2 was ended by SIGKILL")
    assert not list(tmp_path.rglob("*.part"))
    assert not list(temporary.iterdir()), "what ranks wrote for each other"
    two = tmp_path / clip
    one = write_clip(tiny_pipeline(read_spec(two, tmp_path)), tmp_path / "one")
    # A few pixels are cut to the whole number beside, and the mp4 spreads that a little; other seeds differ by tens.
    assert np.abs(read_frames(one).astype(int) - read_frames(two)).mean() < 1


def test_a_defect_in_a_rank_is_one_sentence_that_names_the_file_with_its_traceback(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(DEFECT)
    with generating(tiny_bundle, str(program), TMPDIR=str(tmp_path)) as (launcher, _):
        assert launcher.wait(STARTING) == 1
    (sentence,) = sentences()
    assert sentence.startswith("error: rank 1 of 2 failed (RuntimeError: a defect")
    traceback = Path(sentence.rpartition(" is in ")[2].removesuffix("."))
    assert traceback.is_relative_to(tmp_path)
    assert "RuntimeError: a defect" in traceback.read_text()
