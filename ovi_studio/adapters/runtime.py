"""Adapters beside the weights: low-rank changes of linear layers through PEFT, with strengths that follow the steps.

All adapters of a layer that have the same strengths over the steps run as one, by concatenation: exact, and half the
cost of running them one by one. A group that is at zero in a step is not computed in it. Strengths are numbers on the
host that kernels take as arguments, so a change of them waits for nothing. Removing puts the plain modules back.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn

from ovi_studio.adapters.formats.change import RuntimeChange
from ovi_studio.distributed.shards import home

_CONSTANT = "constant"


class RuntimeLora(NamedTuple):
    """A change that runs beside a layer, with its strength in every step (one entry: the same in all)."""

    change: RuntimeChange
    strengths: tuple[float, ...]


class _Group(NamedTuple):
    """The changes that share their strengths: one PEFT adapter."""

    name: str
    strengths: tuple[float, ...]
    scale: Tensor
    layers: list[LoraLinear]


class RuntimeAdapters:
    """The adapters that run beside the layers of one model.

    Args:
        model: the transformer, with its linear layers under their official names.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._groups: list[_Group] = []

    @property
    def active(self) -> bool:
        return bool(self._groups)

    @property
    def size(self) -> int:
        """Bytes of all their tensors."""
        layers = [(layer, group.name) for group in self._groups for layer in group.layers]
        weights = [part[name].weight for layer, name in layers for part in (layer.lora_A, layer.lora_B)]
        return sum(weight.numel() * weight.element_size() for weight in weights)

    @staticmethod
    def can_wrap(module: nn.Module) -> bool:
        """Whether a change can run beside this module: a linear layer, quantised or not."""
        return hasattr(module, "in_features") and hasattr(module, "out_features")

    @torch.no_grad()
    def inject(self, additions: Mapping[str, Sequence[RuntimeLora]], dtype: torch.dtype) -> None:
        """Put changes beside layers, in place of those that run now.

        Args:
            additions: official name of a linear layer (without `.weight`) -> its changes.
            dtype: what the model computes in; the adapters' tensors are rounded to it.
        """
        self.remove()
        # Constant strengths become a part of the tensors, so that all of them are one adapter.
        keys = sorted({_key(beside) for besides in additions.values() for beside in besides})
        for index, key in enumerate(keys):
            name = f"schedule_{index}" if key else _CONSTANT
            layers = {
                layer: own
                for layer, besides in additions.items()
                if (own := [beside for beside in besides if _key(beside) == key])
            }
            self._groups.append(self._add(name, key, layers, dtype))
        self.set_step(0)

    def set_step(self, step: int) -> None:
        """Use the strengths of a step, counted from 0."""
        active = []
        for group in self._groups:
            strength = group.strengths[step] if group.strengths else 1.0
            group.scale.fill_(strength)
            if strength:
                active.append(group.name)
        for layer in {layer for group in self._groups for layer in group.layers}:
            own = [name for name in active if name in layer.scaling]
            if layer.active_adapters != own:
                layer.set_adapter(own, inference_mode=True)

    def remove(self) -> None:
        """Put the plain modules back."""
        if not self._groups:
            return
        for name, module in list(self._model.named_modules()):
            if isinstance(module, LoraLinear):
                _replace(self._model, name, module.get_base_layer())
        self._groups = []

    def _add(
        self, name: str, strengths: tuple[float, ...], layers: Mapping[str, Sequence[RuntimeLora]], dtype: torch.dtype
    ) -> _Group:
        factors = {layer: _concatenated(besides, constant=not strengths) for layer, besides in layers.items()}
        self._inject_empty(name, {layer: down.shape[0] for layer, (down, _) in factors.items()})
        # One number for all layers. On the host: a kernel takes it as an argument wherever the model is moved to.
        group = _Group(name, strengths, torch.ones((), dtype=torch.float32), [])
        for layer_name, (down, up) in factors.items():
            layer = self._model.get_submodule(layer_name)
            device = home(next(iter([*layer.get_base_layer().parameters(), *layer.get_base_layer().buffers()])))
            layer.lora_A[name].weight = nn.Parameter(down.to(device, dtype), requires_grad=False)
            layer.lora_B[name].weight = nn.Parameter(up.to(device, dtype), requires_grad=False)
            layer.scaling[name] = group.scale
            group.layers.append(layer)
        return group

    def _inject_empty(self, name: str, ranks: Mapping[str, int]) -> None:
        """PEFT's layers around the named ones, without memory for their tensors."""
        # Exact names: PEFT would take anything that ends alike as well.
        config = LoraConfig(
            r=1, lora_alpha=1, target_modules=list(ranks), rank_pattern=dict(ranks), inference_mode=True, bias="none"
        )
        types = {type(self._base(layer)) for layer in ranks}
        config._register_custom_module({kind: LoraLinear for kind in types if not issubclass(kind, nn.Linear)})
        with warnings.catch_warnings():
            # About layers of classes that it does not know: quantised ones, which are wrapped on purpose.
            warnings.filterwarnings("ignore", message="Unsupported layer type")
            inject_adapter_in_model(config, self._model, adapter_name=name, low_cpu_mem_usage=True)
        # PEFT leaves its bookkeeping on the model, and warns when it finds it there at the next group.
        del self._model.peft_config

    def _base(self, layer: str) -> nn.Module:
        module = self._model.get_submodule(layer)
        return module.get_base_layer() if isinstance(module, LoraLinear) else module


def _key(beside: RuntimeLora) -> tuple[float, ...]:
    """What changes must share to run as one; constant strengths are all alike."""
    return beside.strengths if len(beside.strengths) > 1 else ()


def _concatenated(besides: Sequence[RuntimeLora], *, constant: bool) -> tuple[Tensor, Tensor]:
    """(sum of ranks, columns) and (rows, sum of ranks), float32: their product is the sum of the changes."""
    pairs = [beside.change.factors(None) for beside in besides]
    scales = [beside.change.scale * (beside.strengths[0] if constant else 1.0) for beside in besides]
    ups = [up * scale for (up, _), scale in zip(pairs, scales, strict=True)]
    return torch.cat([down for _, down in pairs]), torch.cat(ups, dim=1)


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    owner, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(owner), attribute, module)
