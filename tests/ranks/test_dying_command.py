"""`generate` on several ranks, one of which dies: one sentence, an exit status, and the clips that were finished.

These are the clips that one process makes.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from clip_reading import read_frames
from processes import is_alive, kill, ranks_of, wait_while, with_children
from rank_helpers import environment

from ovi_studio.media.clip_files import read_spec, write_clip
from ovi_studio.runtime.pipeline import Pipeline

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="several ranks need Linux")
STARTING = 240
"""Seconds; three processes import torch, on a machine that may be busy."""
DEFECT = """
import os
if os.environ.get("RANK") == "1":
    import ovi_studio.runtime.clip_runner as runner
    def follow(self):
        raise RuntimeError("a defect\\nerror: forged")
    runner.ClipRunner.follow = follow
"""


@contextmanager
def generating(bundle: Path, folder: Path, *more: str, **variables: str) -> Iterator[subprocess.Popen]:
    (folder / "prompts.csv").write_text("text_prompt,steps\na red ball,2\na blue ball,1000\n")
    command = [sys.executable, "-m", "ovi_studio", "generate", "--prompts", "prompts.csv", "--gpus", "2", *more]
    with subprocess.Popen(
        [*command, "--variant", "tiny", "--ckpt-dir", str(bundle), "--out", "out"],
        env={**environment(forking=True), **variables},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as launcher:
        try:
            yield launcher
        finally:
            kill(with_children(launcher.pid))


def sentences(stderr: str) -> list[str]:
    """The lines without the progress bar."""
    return [line for line in re.split(r"[\r\n]+", stderr) if line.strip() and "| step " not in line]


def test_a_killed_rank_is_one_sentence_and_finished_clips_stay(
    tiny_bundle: Path, tiny_pipeline: Pipeline, tmp_path: Path
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with generating(tiny_bundle, tmp_path, TMPDIR=str(temporary)) as command:
        clip = command.stdout.readline().strip()
        processes = ranks_of(command.pid, "ovi_studio")
        assert len(processes) == 2
        processes[1].send_signal(signal.SIGKILL)
        _, said = command.communicate(timeout=60)
        assert wait_while(lambda: any(map(is_alive, processes)), 10)
    assert command.returncode == 128 + signal.SIGKILL
    (sentence,) = sentences(said)
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
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(DEFECT)
    paths = os.pathsep.join([str(tmp_path / "site"), environment()["PYTHONPATH"]])
    with generating(tiny_bundle, tmp_path, PYTHONPATH=paths, TMPDIR=str(tmp_path)) as command:
        _, said = command.communicate(timeout=STARTING)
    assert command.returncode == 1
    (sentence,) = sentences(said)
    assert sentence.startswith("error: rank 1 of 2 failed (RuntimeError: a defect")
    traceback = Path(sentence.rpartition(" is in ")[2].removesuffix("."))
    assert "RuntimeError: a defect" in traceback.read_text()
