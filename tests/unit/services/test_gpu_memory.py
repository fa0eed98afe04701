"""GPU memory, read from a script that stands in for `nvidia-smi`."""

import sys
from pathlib import Path

import pytest

from ovi_studio.services.gpu_memory import gpu_memory

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="stands in for a program with a shell script")


def stand_in(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")


def test_every_gpu_is_listed_with_its_name_and_bytes(tmp_path, monkeypatch):
    lines = "0, NVIDIA GeForce RTX 3090, 1024, 24576\\n1, NVIDIA GeForce RTX 3090, 0, 24576"
    stand_in(tmp_path, f'test "$2" = "--format=csv,noheader,nounits" && printf "{lines}"', monkeypatch)
    assert gpu_memory() == {
        "GPU 0: GeForce RTX 3090": (2**30, 24 * 2**30),
        "GPU 1: GeForce RTX 3090": (0, 24 * 2**30),
    }


@pytest.mark.parametrize(
    "script", ["echo 'No devices were found'; exit 6", "echo '0, Some GPU, [N/A], [N/A]'", "echo x"]
)
def test_an_unusable_or_missing_nvidia_smi_is_not_an_error(tmp_path, monkeypatch, script):
    stand_in(tmp_path, script, monkeypatch)
    assert gpu_memory() == {}
    monkeypatch.setenv("PATH", str(tmp_path / "nothing here"))
    assert gpu_memory() == {}
