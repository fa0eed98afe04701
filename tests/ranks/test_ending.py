"""A rank that fails exits at once without waiting for anything, after its output is flushed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from places import SUPPORT
from processes import is_alive, kill
from rank_helpers import environment, run_ranks
from warm_start import PIPELINES

from ovi_studio.distributed.launch import launch_command

LINGERING = str(SUPPORT / "lingering")
SOON = 5
"""Seconds."""

SCRIPT = """
import atexit, logging, sys, threading
from ovi_studio.distributed.ending import end_with

def main():
    print("said")
    logging.basicConfig(filename=sys.argv[1])
    logging.warning("logged")
    atexit.register(lambda: print("waited"))
    scope = {"status": 0}
    exec(sys.argv[2], globals(), scope)
    return scope["status"]

end_with(main)
"""
LINGERING_RANKS = """
import os, runpy, sys, threading
import forking_launcher
forking_launcher.run_and_leave = lambda module: runpy.run_module(module, run_name="__main__", alter_sys=True)
os.register_at_fork(after_in_child=lambda: threading.Thread(target=threading.Event().wait).start())
os.execv(sys.executable, sys.argv[1:])
"""
"""A launcher whose ranks are forked, have a thread that never ends, and end as the interpreter does."""


def end(folder: Path, statement: str, **variables: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", SCRIPT, str(folder / "log"), statement]
    return subprocess.run(
        command, env={**environment(), **variables}, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("statement", "status", "said"),
    [
        ("status = 1", 1, ""),
        ("status = 130", 130, ""),
        ("sys.exit(2)", 2, ""),
        ("sys.exit('a sentence')", 1, "a sentence"),
        ("raise RuntimeError('a defect')", 1, "RuntimeError: a defect"),
        ("raise KeyboardInterrupt", 1, "KeyboardInterrupt"),
    ],
)
def test_a_rank_that_fails_waits_for_nothing(tmp_path: Path, statement: str, status: int, said: str) -> None:
    rank = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    paths = os.pathsep.join([LINGERING, environment()["PYTHONPATH"]])
    ended = end(tmp_path, statement, **rank, PYTHONPATH=paths)
    assert ended.returncode == status
    assert ended.stdout == "said\n"
    assert said in ended.stderr
    assert "logged" in (tmp_path / "log").read_text()


def test_other_processes_end_normally(tmp_path: Path) -> None:
    ended = end(tmp_path, "raise RuntimeError('a defect')")
    assert ended.returncode == 1
    assert ended.stdout == "said\nwaited\n"
    assert "RuntimeError: a defect" in ended.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="several ranks need Linux")
def test_ranks_that_leave_the_group_do_not_count_as_lost(tmp_path: Path) -> None:
    run_ranks(2, "rank_leaving", str(tmp_path / "answer.json"))


@pytest.mark.skipif(sys.platform == "win32", reason="several ranks need Linux")
def test_a_refusal_on_the_leader_ends_all_ranks_at_once(tiny_bundle: Path, tmp_path: Path) -> None:
    arguments = ["generate", "--prompt", "a ball", "--variant", "tiny", "--ckpt-dir", str(tiny_bundle), "--count", "0"]
    program = tmp_path / "lingering.py"
    program.write_text(LINGERING_RANKS)
    reading, writing = os.pipe()
    command = launch_command(2, "ovi_studio", arguments)
    launcher = PIPELINES.start(str(program), *command, environment=environment(), stderr=writing)
    os.close(writing)
    ranks: list[psutil.Process] = []
    with os.fdopen(reading) as said:
        try:
            assert any("count must be 1 or more" in line for line in said)
            refused = time.monotonic()
            ranks = psutil.Process(launcher.pid).children(recursive=True)
            assert launcher.wait(60) != 0
            assert time.monotonic() - refused < 4 * SOON  # torch's launcher would wait for half a minute
            assert not any(map(is_alive, ranks))
        finally:
            launcher.kill()
            kill(ranks)
