"""Memory of the GPUs as `nvidia-smi` tells it, for processes that must not import torch; nothing without it."""

import shutil
import subprocess

_MEBIBYTE = 2**20
_PATIENCE = 3.0
_QUERY = ("--query-gpu=index,name,memory.used,memory.total", "--format=csv,noheader,nounits")


def gpu_memory() -> dict[str, tuple[int, int]]:
    """Name of each GPU -> bytes that are used, by anybody, and all there are; empty if nobody can say."""
    program = shutil.which("nvidia-smi")
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
