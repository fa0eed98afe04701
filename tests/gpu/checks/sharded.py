import json
import os
import socket
import subprocess
import sys

from places import PYTHON_PATH
from warm_start import PIPELINES

from gpu.check import Findings, Rig, require

_SECONDS = 150
_ON_A_CPU = {"bf16": 1e-5, "int8": 2e-2, "fp8-fast": 2e-2}
"""Maximum relative errors on a CPU: kernels depend on a weight's alignment, and a later quantisation may round up."""


def check(rig: Rig, found: Findings) -> None:
    """A model sharded over one rank computes the same as the plain model; on a GPU bit for bit."""
    answer = rig.folder / "answer.json"
    command = ["-m", "gpu.sharded_rank", str(answer), str(rig.folder), *["--small"] * rig.small]
    try:
        done = PIPELINES.run(*command, environment=_environment(), patience=_SECONDS)
    except subprocess.TimeoutExpired:
        require(False, f"The rank had not finished after {_SECONDS} seconds.")
    last = done.stderr.strip().splitlines()[-1:] or ["nothing"]
    if done.returncode:
        print(done.stderr, file=sys.stderr)
    require(done.returncode == 0, f"The rank exited with {done.returncode}: {last[0]}")
    for weights, result in json.loads(answer.read_text()).items():
        found.note(f"{weights}, difference", result["difference"])
        found.note(f"{weights}, plain step", result["plain"], "s")
        found.note(f"{weights}, sharded step", result["sharded"], "s")
        require(result["shards"] > 0, f"In {weights} no part of the model was sharded.")
        bound = 0 if rig.on_gpu else _ON_A_CPU[weights]
        require(result["difference"] <= bound, f"In {weights} the sharded model differs by {result['difference']:.1e}.")


def _environment() -> dict[str, str]:
    """Return the environment that `accelerate launch` gives a single rank."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    ranks = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    rendezvous = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return {**os.environ, **ranks, **rendezvous, "PYTHONPATH": PYTHON_PATH, "PYTHONWARNINGS": "ignore"}
