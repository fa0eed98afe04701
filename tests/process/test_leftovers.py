"""A process that a test leaves behind is named at the end of the run, is killed, and fails the run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from places import PYTHON_PATH
from processes import MARK, is_alive, with_children

LEAVING = """
import subprocess, sys
from pathlib import Path

SLEEP = "import time; time.sleep(600)"
PARENT = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}], env={{}}); {SLEEP}"

def test_that_leaves_a_process_with_a_child_in_another_group():
    child = subprocess.Popen([sys.executable, "-c", PARENT], start_new_session=True)
    Path("pid").write_text(str(child.pid))

def test_that_waits():
    subprocess.run([sys.executable, "-c", "pass"], check=True)
"""


@pytest.mark.parametrize("workers", ["0", "2"], ids=["serial", "two workers"])
def test_a_process_that_a_test_leaves_behind_fails_the_run_and_is_killed(tmp_path: Path, workers: str) -> None:
    (tmp_path / "test_leaving.py").write_text(LEAVING)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "leftovers", "-n", workers, "--rootdir", str(tmp_path)]
    variables = {name: value for name, value in os.environ.items() if name != MARK and not name.startswith("PYTEST")}
    ended = subprocess.run(
        [*command, "-c", os.devnull, str(tmp_path)],
        env={**variables, "PYTHONPATH": PYTHON_PATH},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "2 passed" in ended.stdout, ended.stdout + ended.stderr
    assert ended.returncode == 1
    lines = ended.stdout.partition("Left behind by tests")[2].splitlines()
    left = [line for line in lines if "test_that_leaves_a_process_with_a_child_in_another_group" in line]
    assert len(left) == 2
    assert not any(map(is_alive, with_children(int((tmp_path / "pid").read_text()))))
