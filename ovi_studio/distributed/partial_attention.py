"""Attention to a part of the keys, with the log-sum-exp of the scores, which is needed to combine the parts.

The softmax over all keys is the sum of the parts' results, each weighted by exp(its log-sum - the total log-sum).
"""

import math

import torch
from torch import Tensor

_FLASH_TYPES = (torch.float16, torch.bfloat16)


def attention_with_log_sum(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Return result (batch, queries, heads, width) and log-sum-exp (batch, queries, heads), in float32 or wider.

    Without any keys the result is 0 and the log-sum -inf, which gives it no weight.
    """
    if key.shape[1] == 0:
        log_sum = query.new_full(query.shape[:3], -math.inf, dtype=torch.promote_types(query.dtype, torch.float32))
        return torch.zeros_like(query), log_sum
    heads_first = (x.transpose(1, 2) for x in (query, key, value))
    result, log_sum = _kernel(*heads_first)
    return result.transpose(1, 2), log_sum.transpose(1, 2).contiguous()


def _kernel(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Call the kernels of PyTorch that return the log-sum as well, which its public function drops."""
    if query.device.type == "cpu":
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value)
    if query.device.type == "cuda" and query.dtype in _FLASH_TYPES:
        return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value)[:2]
    scores = query.float() @ key.float().transpose(-1, -2) / math.sqrt(query.shape[-1])
    log_sum = scores.logsumexp(dim=-1)
    return ((scores - log_sum.unsqueeze(-1)).exp() @ value.float()).to(query.dtype), log_sum
