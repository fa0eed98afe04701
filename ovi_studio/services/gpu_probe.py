"""What torch and the driver report about the GPUs, probed by child processes.

The calling process imports no torch and touches no GPU; a broken driver ends only the child.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata

from ovi_studio.services.gpu_memory import find_nvidia_smi

_TORCH_PROBE = """
import json, torch
gpus = []
for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
    free, total = torch.cuda.mem_get_info(index)
    major, minor = torch.cuda.get_device_capability(index)
    gpus.append(dict(name=torch.cuda.get_device_name(index), total=total, free=free, capability=[major, minor]))
build = "ROCm " + torch.version.hip if torch.version.hip else "CUDA " + torch.version.cuda if torch.version.cuda else ""
print(json.dumps(dict(version=torch.__version__, build=build, gpus=gpus)))
"""
_PROBE_SECONDS = 120


@dataclass(frozen=True)
class ProbedGpu:
    """A GPU as torch reports it; memory in bytes."""

    name: str
    total: int
    free: int
    capability: tuple[int, int]


@dataclass(frozen=True)
class TorchProbe:
    """The installed torch and the GPUs it sees; `error` says why the probe failed."""

    version: str = ""
    build: str = ""
    """`CUDA 13.0`, `ROCm 7.1`, or empty for a CPU-only build."""
    gpus: tuple[ProbedGpu, ...] = ()
    error: str = ""


def probe_torch() -> TorchProbe:
    """Ask torch for its version and its GPUs, in a child process; takes a few seconds."""
    installed = package_version("torch")
    if installed is None:
        return TorchProbe(error="torch is not installed")
    try:
        # -P: a user's file in the working directory must not shadow a package.
        command = [sys.executable, "-P", "-c", _TORCH_PROBE]
        child = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False)
        answer = json.loads(child.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return TorchProbe(installed, error=f"torch {installed} did not answer within {_PROBE_SECONDS} seconds")
    except (IndexError, ValueError):
        reason = (child.stderr.strip().splitlines() or [f"exit code {child.returncode}"])[-1]
        return TorchProbe(installed, error=f"torch {installed} failed to list the GPUs ({reason})")
    gpus = tuple(ProbedGpu(**{**gpu, "capability": tuple(gpu["capability"])}) for gpu in answer["gpus"])
    return TorchProbe(answer["version"], answer["build"], gpus)


def driver_gpus() -> list[str]:
    """Names of the GPUs that `nvidia-smi` lists, whether or not torch sees them."""
    tool = find_nvidia_smi()
    if tool is None:
        return []
    command = [tool, "--query-gpu=name", "--format=csv,noheader"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [name.strip() for name in listed.stdout.splitlines() if name.strip()] if listed.returncode == 0 else []


def package_version(package: str) -> str | None:
    """Return the version of an installed package; None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
