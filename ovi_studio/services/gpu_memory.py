"""GPU memory as `nvidia-smi` reports it, for processes that must not import torch."""

import shutil
import subprocess

_MEBIBYTE = 2**20
_WSL_PATH = "/usr/lib/wsl/lib"
_TIMEOUT_SECONDS = 3.0
_QUERY = ("--query-gpu=index,name,memory.used,memory.total", "--format=csv,noheader,nounits")


def find_nvidia_smi() -> str | None:
    """Find the driver's own tool; under WSL it is not on every shell's path."""
    return shutil.which("nvidia-smi") or shutil.which("nvidia-smi", path=_WSL_PATH)


def gpu_memory() -> dict[str, tuple[int, int]]:
    """Map each GPU's name to (used, total) bytes, counting all programs; empty if `nvidia-smi` cannot be asked."""
    program = find_nvidia_smi()
    if program is None:
        return {}
    try:
        answer = subprocess.run(
            [program, *_QUERY], capture_output=True, text=True, check=True, timeout=_TIMEOUT_SECONDS
        ).stdout
        return dict(map(_parse_gpu, answer.splitlines()))
    except (OSError, subprocess.SubprocessError, ValueError):
        # For example, the driver is being updated; the doctor reports more about it.
        return {}


def _parse_gpu(line: str) -> tuple[str, tuple[int, int]]:
    """Parse `0, NVIDIA GeForce RTX 3090, 1024, 24576`; `ValueError` for `[N/A]`, a GPU without memory of its own."""
    index, name, used, total = (part.strip() for part in line.split(","))
    return f"GPU {index}: {name.removeprefix('NVIDIA ')}", (int(used) * _MEBIBYTE, int(total) * _MEBIBYTE)
