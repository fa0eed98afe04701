"""Whether the transformer's blocks are compiled: asked for and possible, refused with a reason, or chosen quietly."""

import logging
from functools import cache
from importlib.util import find_spec

import torch

from ovi_studio.core.errors import JobError, is_out_of_memory

VARIANTS_OF_A_BLOCK = 64
"""Of sizes, first frames, adapters and formats; torch's own limit is 8, beyond which it compiles nothing and says
nothing."""

log = logging.getLogger(__name__)


def choose_compilation(asked: bool | None, device: torch.device, *, measured: bool) -> bool:
    """Whether blocks are to be compiled on a device.

    Args:
        asked: what a person wants; None: compiled on a GPU where that works, and nothing is said where it does not.
        measured: whether compiling is known to pay for the weights and ranks in use; None is then no otherwise.

    Raises `JobError` if it is asked for and cannot be done here.
    """
    if asked is False or (asked is None and (device.type != "cuda" or not measured)):
        return False
    problem = compiler_problem(device)
    if problem is None:
        return True
    if asked:
        raise JobError(
            f"Blocks cannot be compiled here ({problem}); leave --compile out, or install Triton and a C compiler."
        )
    return False


@cache
def compiler_problem(device: torch.device) -> str | None:
    """Why nothing can be compiled for a device; None if it can, which was tried with a small function."""
    problem = _try_to_compile(device)
    if problem is not None:
        log.info("Nothing can be compiled for %s: %s", device, problem)
    return problem


def _try_to_compile(device: torch.device) -> str | None:
    if device.type == "cuda" and find_spec("triton") is None:
        return "Triton is not installed"
    try:
        torch.compile(_small, dynamic=False)(torch.ones(8, device=device))
    except Exception as error:  # whatever it is: this is what it was tried for
        if is_out_of_memory(error):
            raise
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return None


def allow_many_variants() -> None:
    """Let a block be compiled anew for every size that is asked for."""
    torch._dynamo.config.recompile_limit = VARIANTS_OF_A_BLOCK


def _small(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.gelu(x) + 1
