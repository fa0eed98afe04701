"""Whatever becomes of the terminal: commands go on, and nobody sees a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from places import PYTHON_PATH, ROOT


def program(code: str, **environment: str) -> subprocess.Popen:
    prelude = "from ovi_studio.core.terminal import use_forgiving_output; use_forgiving_output()\n"
    return subprocess.Popen(
        [sys.executable, "-c", prelude + code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": PYTHON_PATH, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_a_reader_that_goes_away_does_not_end_a_batch(tmp_path: Path) -> None:
    done = tmp_path / "done"
    child = program(
        "import sys, pathlib\n"
        "for number in range(20_000): print('outputs/clip', number, flush=number < 5)\n"
        f"pathlib.Path({str(done)!r}).touch()\n"
    )
    assert child.stdout.readline() == b"outputs/clip 0\n"
    child.stdout.close()
    said = child.stderr.read()
    assert child.wait(60) == 0
    assert said == b""
    assert done.exists()


def test_a_console_that_cannot_show_a_character_gets_it_escaped() -> None:
    child = program("print('caf\\u00e9 \\u2192 \\U0001f600')", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    said, error = child.communicate(timeout=60)
    assert said == b"caf\\xe9 \\u2192 \\U0001f600\n"
    assert error == b""


@pytest.mark.skipif(sys.platform == "win32", reason="pipes in folders are of POSIX")
def test_a_pipe_among_the_loras_is_passed_over(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    command = [sys.executable, "-m", "ovi_studio", "loras", "--lora-dir", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": PYTHON_PATH}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "There are no adapters" in done.stdout
