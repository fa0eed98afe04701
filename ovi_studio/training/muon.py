"""Muon (Keller Jordan, 2024): momentum with orthogonalised updates, for the weight matrices of hidden layers.

PyTorch's implementation computes in bfloat16, which is very slow on a CPU without such instructions, and one matrix at
a time; here matrices of one shape are orthogonalised together. All other parameters are left to AdamW.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import overload

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients of the Newton-Schulz iteration that brings all singular values near 1; from Muon's author."""
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Muon for matrices and convolution kernels, which are treated as matrices (out channels, everything else)."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step; the size of an update depends on its matrix, not on the gradient's size.

        Args:
            closure: computes gradients and loss again, as for every optimizer of PyTorch.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for same_shape in _by_shape(parameter for parameter in group["params"] if parameter.grad is not None):
                self._update(same_shape, group["lr"], group["momentum"], group["weight_decay"])
        return loss

    def _update(self, parameters: Sequence[nn.Parameter], lr: float, momentum: float, weight_decay: float) -> None:
        weights: list[Tensor] = [*parameters]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        averages = [self._average(parameter) for parameter in parameters]
        torch._foreach_lerp_(averages, gradients, 1 - momentum)
        updates = orthogonal(torch.stack(torch._foreach_lerp(gradients, averages, momentum)).flatten(2))
        rows, columns = updates.shape[1:]
        if weight_decay:
            torch._foreach_mul_(weights, 1 - lr * weight_decay)
        changes = list(updates.view(-1, *weights[0].shape).unbind())
        torch._foreach_add_(weights, changes, alpha=-lr * max(1, rows / columns) ** 0.5)

    def _average(self, parameter: nn.Parameter) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        return state["momentum"]


def orthogonal(matrices: Tensor) -> Tensor:
    """Return, for each matrix of (count, rows, columns), the nearest one whose singular values are about 1."""
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    # On a GPU bfloat16 is fast and accurate enough: the iteration corrects itself.
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
