"""Ends a clip whose values are not finite, with a sentence that says what to change."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ovi_studio.core.errors import JobError
from ovi_studio.core.weight_formats import Weights
from ovi_studio.models.attention_kernels import NATIVE


@dataclass(frozen=True)
class FiniteCheck:
    """Checks values of a clip that is made in this way."""

    attention: str
    weights: Weights
    adapted: Callable[[], bool]
    """Whether adapters are in use."""

    def require(self, what: str, finite: Tensor | bool) -> None:
        """Raise `JobError` unless all values of `what` are finite; waits for the device."""
        if finite:
            return
        remedies = [
            f"weights in bf16 instead of {self.weights}" if self.weights is not Weights.BF16 else "",
            "adapters with lower strengths or none" if self.adapted() else "",
            f"attention 'native' instead of {self.attention!r}" if self.attention != NATIVE else "",
        ]
        remedies = [one for one in remedies if one] or ["lower guidance, or check the model's files with `doctor`"]
        raise JobError(f"Some values of {what} are NaN or infinite; try {', or '.join(remedies)}.")
