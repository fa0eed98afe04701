"""Muon (Keller Jordan, 2024): momentum whose matrices are made orthogonal, for the weights of hidden layers.

PyTorch's own computes in bfloat16, which a CPU without such instructions does very slowly, and matrix after matrix;
here matrices of one shape are orthogonalised together. Everything that is no matrix is left to AdamW.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the Newton-Schulz iteration that brings all singular values near 1; from Muon's author."""
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """For matrices and convolution kernels, which count as (out channels, everything else)."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One step; the update has the size of its matrix, whatever the gradient's is."""
        for group in self.param_groups:
            for alike in _by_shape(parameter for parameter in group["params"] if parameter.grad is not None):
                self._update(alike, group["lr"], group["momentum"], group["weight_decay"])

    def _update(self, parameters: list[nn.Parameter], lr: float, momentum: float, weight_decay: float) -> None:
        gradients = [parameter.grad for parameter in parameters]
        averages = [self._average(parameter) for parameter in parameters]
        torch._foreach_lerp_(averages, gradients, 1 - momentum)
        updates = orthogonal(torch.stack(torch._foreach_lerp(gradients, averages, momentum)).flatten(2))
        rows, columns = updates.shape[1:]
        if weight_decay:
            torch._foreach_mul_(parameters, 1 - lr * weight_decay)
        changes = list(updates.view(-1, *parameters[0].shape).unbind())
        torch._foreach_add_(parameters, changes, alpha=-lr * max(1, rows / columns) ** 0.5)

    def _average(self, parameter: nn.Parameter) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        return state["momentum"]


def orthogonal(matrices: Tensor) -> Tensor:
    """For each of (count, rows, columns) the nearest matrix whose singular values are about 1."""
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    # Where bfloat16 is fast it is enough: the iteration corrects itself.
    x = x.to(torch.bfloat16 if x.is_cuda else torch.float32)
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)


def _by_shape(parameters: Iterable[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    groups: dict[tuple[int, ...], list[nn.Parameter]] = {}
    for parameter in parameters:
        groups.setdefault(tuple(parameter.shape), []).append(parameter)
    yield from groups.values()
