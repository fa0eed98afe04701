"""Measures the memory of live tensors on any device."""

import weakref
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class Live(TorchDispatchMode):
    """Records the peak memory of all tensors that are created while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._now = 0
        self._holders: dict[int, list[int]] = {}

    def __torch_dispatch__(self, operation: Any, types: Any, inputs: Any = (), options: Any = None) -> Any:
        result = operation(*inputs, **(options or {}))
        for tensor in tree_iter(result):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                key, size = storage._cdata, storage.nbytes()
                if key not in self._holders:
                    self._holders[key] = [0, size]
                    self._now += size
                self._holders[key][0] += 1
                weakref.finalize(tensor, self._drop, key)
        self.peak = max(self.peak, self._now)
        return result

    def _drop(self, key: int) -> None:
        holders = self._holders[key]
        holders[0] -= 1
        if not holders[0]:
            self._now -= holders[1]
            del self._holders[key]
