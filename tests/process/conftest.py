"""Commands in this process, in a folder of their own."""

from pathlib import Path

import numpy as np
import pytest
from commands import Ended, Run
from PIL import Image

from ovi_studio.__main__ import main


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a command in this process, in an empty folder."""
    monkeypatch.delenv("OVI_CKPT_DIR", raising=False)
    monkeypatch.chdir(tmp_path)

    def command(*arguments: object) -> Ended:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Ended(status, printed.out.splitlines(), printed.err)

    return command


@pytest.fixture
def generate(run: Run, tiny_bundle: Path) -> Run:
    """Return a function that makes clips with the tiny model in two steps, into the folder `out`."""

    def command(*arguments: object) -> Ended:
        return run("generate", "--ckpt-dir", tiny_bundle, "--out", "out", *arguments)

    return command


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "ball.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 160, 3), np.uint8)).save(path)
    return path
