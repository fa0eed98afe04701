"""Starting this program on several ranks: `accelerate launch` with our own configuration file. Imports no torch.

This process becomes the launcher, which starts one process per GPU with the same command; those find each other by
their environment (`ranks`). Without a GPU the ranks share the CPU, which only tests use.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ovi_studio.capacity.layouts import MAX_GPUS, sharing_counts
from ovi_studio.core.errors import JobError
from ovi_studio.distributed.launcher import REPORTS
from ovi_studio.distributed.ranks import launched

LAUNCHER = "ovi_studio.distributed.launcher"
"""`accelerate launch`, and a sentence if a rank dies."""
CONFIG = Path(__file__).parent / "accelerate.yaml"
PUBLISHED_HEADS = 24
"""Attention heads of every published variant; the ranks divide them evenly."""
DEVICES = Path("/dev")
_DRIVERS = ("nvidia[0-9]*", "kfd", "dxg")
"""Files in `DEVICES` that the drivers of NVIDIA, AMD and WSL create for their GPUs."""


def launch_command(ranks: int, module: str, arguments: Sequence[str]) -> list[str]:
    """Return the command that runs `python -m module arguments` on several ranks of this machine."""
    launcher = [sys.executable, "-m", LAUNCHER, "--config_file", str(CONFIG)]
    # Port 0 means any free port, since two engines may run on one machine.
    launcher += ["--num_processes", str(ranks), "--main_process_port", "0", "--module", module]
    return [*launcher, *arguments]


def launch_if_several(gpus: int | None, module: str, arguments: Sequence[str], *, to_terminal: bool = False) -> None:
    """Become the launcher of several ranks if several GPUs are to make a clip; return otherwise, and in the ranks.

    Args:
        gpus: how many GPUs to use; None for as many as are there and can share a clip.
        to_terminal: a defect in a rank is one sentence on stderr, with its traceback in a file.

    Raises `JobError` for a number of GPUs that is not possible.
    """
    if launched():
        return
    if gpus is None:
        gpus = automatic_ranks()
    else:
        require_gpus(gpus)
    if gpus == 1:
        return
    if to_terminal:
        os.environ[REPORTS] = ""
    command = launch_command(gpus, module, arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    # This keeps the process id, so that the parent process can still end it.
    os.execv(command[0], command)


def require_gpus(gpus: int) -> None:
    """Raise `JobError` if this many GPUs cannot share a clip on this machine; without a GPU its processor stands in."""
    if gpus not in sharing_counts(MAX_GPUS, PUBLISHED_HEADS):
        counts = ", ".join(map(str, sharing_counts(max(gpus, 8), PUBLISHED_HEADS)))
        raise JobError(f"{gpus} GPUs cannot share a clip evenly; use one of {counts}.")
    if 0 < (found := gpu_count() if gpus > 1 else 0) < gpus:
        raise JobError(f"There are {found} GPUs here, not {gpus}; use at most {found}.")
    if gpus > 1 and sys.platform == "win32":
        raise JobError(
            "On Windows a clip can use only one GPU, since NCCL is not available; use --gpus 1, or WSL for several."
        )


def automatic_ranks() -> int:
    """Return the largest number of available GPUs that can share a clip; 1 without a GPU."""
    return 1 if sys.platform == "win32" else max(sharing_counts(gpu_count(), PUBLISHED_HEADS), default=1)


def gpu_count() -> int:
    """Return the number of GPUs that torch sees; asked in a child process, since this one may not need torch."""
    if sys.platform == "linux" and not any(list(DEVICES.glob(driver)) for driver in _DRIVERS):
        return 0  # saves the seconds of importing torch
    script = "import torch; print(torch.cuda.device_count() if torch.cuda.is_available() else 0)"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    return int(answer.stdout) if answer.returncode == 0 else 0
