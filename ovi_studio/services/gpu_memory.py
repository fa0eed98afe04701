"""Memory of the GPUs as `nvidia-smi` tells it, for processes that must not import torch; nothing without it."""

import shutil
import subprocess

_MEBIBYTE = 2**20
_UNDER_WSL = "/usr/lib/wsl/lib"
_PATIENCE = 3.0
_QUERY = ("--query-gpu=index,name,memory.used,memory.total", "--format=csv,noheader,nounits")


def find_nvidia_smi() -> str | None:
    """The driver's own tool; under WSL it is not among the programs of every shell."""
    return shutil.which("nvidia-smi") or shutil.which("nvidia-smi", path=_UNDER_WSL)


def gpu_memory() -> dict[str, tuple[int, int]]:
    """Name of each GPU -> bytes that are used, by anybody, and all there are; empty if nobody can say."""
    program = find_nvidia_smi()
    if program is None:
        return {}
    try:
        answer = subprocess.run(
            [program, *_QUERY], capture_output=True, text=True, check=True, timeout=_PATIENCE
        ).stdout
        return dict(map(_gpu, answer.splitlines()))
    except (OSError, subprocess.SubprocessError, ValueError):
        # A driver that is being updated; the doctor has more to say about it.
        return {}


def _gpu(line: str) -> tuple[str, tuple[int, int]]:
    """`0, NVIDIA GeForce RTX 3090, 1024, 24576`; a GPU without memory of its own says `[N/A]`, a `ValueError`."""
    index, name, used, total = (part.strip() for part in line.split(","))
    return f"GPU {index}: {name.removeprefix('NVIDIA ')}", (int(used) * _MEBIBYTE, int(total) * _MEBIBYTE)
