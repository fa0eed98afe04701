"""Whether to compile the transformer's blocks: as requested, refused with a reason, or decided automatically."""

import logging
import math
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import ParamSpec, TypeVar

import torch

from ovi_studio.core.errors import JobError, is_out_of_memory

MAX_BLOCK_VARIANTS = 256
"""Compiled versions of a block: with and without a first frame, for numbers of chunks, adapters and number formats. At
its own limit of 8, torch goes on without compiling."""

LARGE = 1e9
"""Parameters of a model whose clips take longer than compiling it. The embedded one's take seconds."""

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)


def choose_compilation(requested: bool | None, device: torch.device, parameters: float = math.inf) -> bool:
    """Whether to compile the blocks on a device.

    Args:
        requested: the user's choice; None: compile a large model on a GPU where that works.
        parameters: their number in the model.

    Raises `JobError` if compiling is requested but does not work here.
    """
    if requested is False or (requested is None and (device.type != "cuda" or parameters < LARGE)):
        return False
    problem = compiler_problem(device)
    if problem is None:
        return True
    if requested:
        raise JobError(
            f"Blocks cannot be compiled here ({problem}); use --no-compile, or install Triton and a C compiler."
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


def compiled(function: Callable[P, T]) -> Callable[P, T]:
    """Compile a function for tensors of any length; functions with the same code share what is compiled."""
    allow_many_variants()
    return torch.compile(function, dynamic=True)


def allow_many_variants() -> None:
    """Let a function be compiled for many kinds of clips.

    One with more variants than are allowed raises an error: it would be slow for no reason that anybody could see.
    """
    config = torch._dynamo.config
    config.recompile_limit = MAX_BLOCK_VARIANTS
    config.accumulated_recompile_limit = max(config.accumulated_recompile_limit, MAX_BLOCK_VARIANTS)
    config.fail_on_recompile_limit_hit = True
    # Numbers are few and fixed (a head's scale, a norm's epsilon); as variables, every block would be compiled twice.
    config.specialize_float = True


def _small(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.gelu(x) + 1
