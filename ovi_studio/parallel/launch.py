"""Starting this program on several ranks: `accelerate launch` with our own configuration file. Imports no torch.

The process that was asked becomes the launcher, which starts one process a GPU with the same command; those find the
others by the environment (`ranks`). Without a GPU the ranks share the CPU, which is good for tests alone.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from ovi_studio.errors import JobError
from ovi_studio.parallel.plan import MAX_GPUS

CONFIG = Path(__file__).parent / "accelerate.yaml"


def launch_command(ranks: int, module: str, arguments: Sequence[str]) -> list[str]:
    """What runs `python -m module arguments` on several ranks of this machine."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIG)]
    # Port 0: any free one, since two engines may run on one machine.
    launcher += ["--num_processes", str(ranks), "--main_process_port", "0", "--module", module]
    return [*launcher, *arguments]


def launch(ranks: int, module: str, arguments: Sequence[str]) -> NoReturn:
    """Become the launcher; raises `JobError` where several ranks cannot be."""
    if not 2 <= ranks <= MAX_GPUS:
        raise JobError(f"The number of GPUs for a clip must be between 1 and {MAX_GPUS}, not {ranks}.")
    if sys.platform == "win32":
        raise JobError(
            "On Windows a clip can use one GPU only, since NCCL is not there; use --gpus 1, or WSL for several."
        )
    command = launch_command(ranks, module, arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    # The same process id, so that whoever started this process can still end it.
    os.execv(command[0], command)


def gpu_count() -> int:
    """GPUs that torch sees, asked in a child, since this process may want none of them."""
    if sys.platform == "linux" and not (list(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/kfd").exists()):
        return 0
    script = "import torch; print(torch.cuda.device_count() if torch.cuda.is_available() else 0)"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    return int(answer.stdout) if answer.returncode == 0 else 0
