"""How long an attention kernel takes on this machine, for the sequences of clips."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

MEASURED_TOKENS = (15_004, 54_900)
"""Video tokens of 704x704, 5 s, and of 960x960, 10 s."""
_HEADS = 4
"""Of the model's 24: they are enough to fill a GPU, and time is proportional to the heads for every kernel."""
_HEAD_DIM = 128
_CALLS = 2

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Attention over (batch, tokens, heads, head_dim): query, key, value -> result."""


@torch.no_grad()
def time_attention(attend: Attend, tokens: int, device: torch.device, dtype: torch.dtype) -> float:
    """Return the seconds of one call over a sequence of `tokens`: the fastest after one that loads the kernel."""
    query, key, value = torch.randn(3, 1, tokens, _HEADS, _HEAD_DIM, device=device, dtype=dtype).unbind()
    attend(query, key, value)
    return min(_timed(attend, (query, key, value), device) for _ in range(_CALLS))


def _timed(attend: Attend, inputs: tuple[Tensor, Tensor, Tensor], device: torch.device) -> float:
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    attend(*inputs)
    torch.cuda.synchronize(device)
    return time.perf_counter() - start
