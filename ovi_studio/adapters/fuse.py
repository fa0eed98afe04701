"""Fuses adapters into the weights: one float32 sum from the pristine weight, rounded once, and exactly undone.

Adding and subtracting in the weight's own number format drifts (2.5e-2 after a hundred stacks in bfloat16), so the
weight is always computed from its pristine value. Pristine values are read again from a mapping, such as the
memory-mapped checkpoint; without one, copies of the touched parameters are kept in host memory. Sums are computed on
the GPU, one weight at a time, wherever the weights are kept. Parameters are changed in place: views of them, and
compiled code that refers to them, stay valid. A weight in 8 bits with scales is computed from the checkpoint's value
and requantised.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from ovi_studio.adapters.formats.change import Change
from ovi_studio.core.errors import JobError
from ovi_studio.distributed.shards import home, local_part, whole, write
from ovi_studio.models.quantized_linear import stored_rows

Weighted = Sequence[tuple[Change, float]]
"""The changes of one parameter, each with its strength."""


class WeightFuser:
    """Writes changes into parameters and undoes them.

    Args:
        parameters: the model's parameters by their official names. They may be sharded over ranks, which then all
            write the same changes, while nothing is gathered.
        pristine: the stored values that the model was loaded from; None keeps copies of touched parameters.
        worker: the device that computes sums; None: the device of each parameter.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        pristine: Mapping[str, Tensor] | None = None,
        worker: torch.device | None = None,
    ) -> None:
        self._parameters = parameters
        self._pristine = pristine
        self._worker = worker
        self._copies: dict[str, Tensor] = {}
        self._touched: set[str] = set()

    @property
    def touched(self) -> frozenset[str]:
        """The parameters that currently differ from their pristine value."""
        return frozenset(self._touched)

    def can_change(self, parameter: str) -> bool:
        """Whether the parameter exists in a number format that supports sums, or can be requantised."""
        found = self._parameters.get(parameter)
        if found is None:
            return False
        return found.dtype in (torch.float32, torch.bfloat16, torch.float16) or self._is_requantised(parameter)

    @torch.no_grad()
    def write(self, changes: Mapping[str, Weighted]) -> None:
        """Set each of these parameters to its pristine weight plus the sum of strength * change.

        Raises:
            JobError: a result is not finite, or a parameter cannot be changed; all parameters are then pristine again.
        """
        scratch = _Scratch()
        try:
            for name, weighted in changes.items():
                self._write(name, [(change, strength) for change, strength in weighted if strength], scratch)
        except BaseException:
            # A partly written stack would silently spoil every later clip.
            self.restore(self._touched)
            raise

    @torch.no_grad()
    def restore(self, names: Iterable[str]) -> None:
        """Restore the pristine values of these parameters exactly; untouched ones are not read."""
        for name in sorted(self._touched & set(names)):  # in the same order on all ranks, which gather them together
            self._store(name, self._pristine_weight(name))
            self._touched.discard(name)
            self._copies.pop(name, None)

    def _write(self, name: str, weighted: Weighted, scratch: "_Scratch") -> None:
        if not weighted:
            self.restore([name])
            return
        if not self.can_change(name):
            raise JobError(
                f"{name} is quantised, and this adapter's change of it is not a plain LoRA; "
                "load the model without quantisation to use it."
            )
        weight = self._pristine_weight(name)
        total = scratch.like(weight).copy_(weight)
        for change, strength in weighted:
            change.add_to(total, weight, strength)
        if self._pristine is None and name not in self._copies:
            self._copies[name] = local_part(self._parameters[name].data).to("cpu", copy=True)
        self._touched.add(name)
        written = self._store(name, total)
        # NaN and infinity show in the extremes: a third of the time of testing every value.
        if not all(math.isfinite(extreme) for extreme in written.aminmax()):
            raise JobError(f"The adapters together make values of {name} NaN or infinite; lower their strengths.")

    def _store(self, name: str, values: Tensor) -> Tensor:
        """Write whole values, of which a rank keeps its part; returns the tensor to test for finite values."""
        target = self._parameters[name].data
        if self._is_requantised(name):
            rows = stored_rows(values, target.dtype)
            write(target, rows.values)
            write(self._parameters[f"{name}_scale"].data, rows.scale)
            return values
        rounded = values.to(target.dtype)
        write(target, rounded)
        return rounded

    def _is_requantised(self, name: str) -> bool:
        """Whether this weight has scales and its stored values are available, to which changes are added."""
        return self._pristine is not None and f"{name}_scale" in self._parameters

    def _pristine_weight(self, name: str) -> Tensor:
        """Return the whole pristine weight, on the device that computes sums."""
        parameter = self._parameters[name].data
        worker = self._worker or home(parameter)
        if self._pristine is not None and self._is_requantised(name):
            return self._pristine[name].to(worker)
        if name not in self._touched:
            return whole(parameter).to(worker)
        if self._pristine is None:
            return whole(parameter, self._copies[name].to(home(parameter))).to(worker)
        # The model computes with the stored value in its own number format.
        return self._pristine[name].to(worker).to(parameter.dtype)


class _Scratch:
    """A reused buffer for one float32 sum: allocating host memory costs several times as much as the sum."""

    def __init__(self) -> None:
        self._buffers: dict[torch.device, Tensor] = {}

    def like(self, tensor: Tensor) -> Tensor:
        """Return memory of the tensor's shape, on its device, valid until the next call."""
        buffer = self._buffers.get(tensor.device)
        if buffer is None or buffer.numel() < tensor.numel():
            buffer = self._buffers[tensor.device] = torch.empty(
                tensor.numel(), dtype=torch.float32, device=tensor.device
            )
        return buffer[: tensor.numel()].view(tensor.shape)
