"""Whether to compile the transformer's blocks: as requested, refused with a reason, or decided automatically."""

import logging
from functools import cache
from importlib.util import find_spec

import torch

from ovi_studio.core.errors import JobError, is_out_of_memory

MAX_BLOCK_VARIANTS = 64
"""Compiled versions of a block, for different sizes, first frames, adapters and number formats. Beyond torch's own
limit of 8 it silently stops compiling."""

log = logging.getLogger(__name__)


def choose_compilation(requested: bool | None, device: torch.device, *, measured: bool) -> bool:
    """Whether to compile the blocks on a device.

    Args:
        requested: the user's choice; None: compile on a GPU if `measured` and if compiling works there.
        measured: whether compiling is known to pay off for the weights and ranks in use.

    Raises `JobError` if compiling is requested but does not work here.
    """
    if requested is False or (requested is None and (device.type != "cuda" or not measured)):
        return False
    problem = compiler_problem(device)
    if problem is None:
        return True
    if requested:
        raise JobError(
            f"Blocks cannot be compiled here ({problem}); leave out --compile, or install Triton and a C compiler."
        )
    return False


@cache
def compiler_problem(device: torch.device) -> str | None:
    """Why torch cannot compile for a device; None if it can. Found out by compiling a small function."""
    problem = _try_to_compile(device)
    if problem is not None:
        log.info("torch cannot compile for %s: %s", device, problem)
    return problem


def _try_to_compile(device: torch.device) -> str | None:
    if device.type == "cuda" and find_spec("triton") is None:
        return "Triton is not installed"
    try:
        torch.compile(_small, dynamic=False)(torch.ones(8, device=device))
    except Exception as error:  # any error at all means that compiling does not work
        if is_out_of_memory(error):
            raise
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return None


def allow_many_variants() -> None:
    """Let a block be compiled again for every size that is requested."""
    torch._dynamo.config.recompile_limit = MAX_BLOCK_VARIANTS


def _small(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.gelu(x) + 1
