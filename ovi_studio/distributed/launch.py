"""Starting this program on several ranks: `accelerate launch` with our own configuration file. Imports no torch.

The process that was asked becomes the launcher, which starts one process a GPU with the same command; those find the
others by the environment (`ranks`). Without a GPU the ranks share the CPU, which is good for tests alone.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ovi_studio.capacity.layouts import MAX_GPUS, sharing_counts
from ovi_studio.core.errors import JobError
from ovi_studio.distributed.ranks import launched

CONFIG = Path(__file__).parent / "accelerate.yaml"
PUBLISHED_HEADS = 24
"""Attention heads of every published variant, which ranks share."""
DEVICES = Path("/dev")
_DRIVERS = ("nvidia[0-9]*", "kfd", "dxg")
"""What drivers have there for their GPUs: NVIDIA, AMD, and Windows under WSL."""


def launch_command(ranks: int, module: str, arguments: Sequence[str]) -> list[str]:
    """What runs `python -m module arguments` on several ranks of this machine."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIG)]
    # Port 0: any free one, since two engines may run on one machine.
    launcher += ["--num_processes", str(ranks), "--main_process_port", "0", "--module", module]
    return [*launcher, *arguments]


def launch_if_several(gpus: int | None, module: str, arguments: Sequence[str]) -> None:
    """Become the launcher of several ranks, if a clip is to be made by several; returns if not, and in the ranks.

    Args:
        gpus: None for as many as there are and can share a clip.

    Raises `JobError` for a number that cannot be.
    """
    if launched():
        return
    if gpus is None:
        gpus = automatic_ranks()
    elif gpus not in sharing_counts(MAX_GPUS, PUBLISHED_HEADS):
        counts = ", ".join(map(str, sharing_counts(max(gpus, 8), PUBLISHED_HEADS)))
        raise JobError(f"{gpus} GPUs cannot share a clip evenly; use one of {counts}.")
    elif 0 < (found := gpu_count() if gpus > 1 else 0) < gpus:
        raise JobError(f"There are {found} GPUs here, not {gpus}; ask for as many as there are, or fewer.")
    if gpus == 1:
        return
    if sys.platform == "win32":
        raise JobError(
            "On Windows a clip can use one GPU only, since NCCL is not there; use --gpus 1, or WSL for several."
        )
    command = launch_command(gpus, module, arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    # The same process id, so that whoever started this process can still end it.
    os.execv(command[0], command)


def automatic_ranks() -> int:
    """As many GPUs as there are and can share a clip; 1 without any."""
    return 1 if sys.platform == "win32" else max(sharing_counts(gpu_count(), PUBLISHED_HEADS), default=1)


def gpu_count() -> int:
    """GPUs that torch sees, asked in a child, since this process may want none of them."""
    if sys.platform == "linux" and not any(list(DEVICES.glob(driver)) for driver in _DRIVERS):
        return 0  # without seconds of importing torch
    script = "import torch; print(torch.cuda.device_count() if torch.cuda.is_available() else 0)"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    return int(answer.stdout) if answer.returncode == 0 else 0
