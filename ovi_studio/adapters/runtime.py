"""Run-time adapters: low-rank changes of linear layers through PEFT, with strengths that vary over the steps.

All adapters of a layer with the same strengths over the steps run as one, by concatenation: exact, and half the cost of
running them one by one. A group is not computed in steps in which its strength is zero. Strengths are numbers on the
host that kernels take as arguments, so changing them never waits. Removing restores the plain modules.
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
    """A change that is applied at run time, with its strength in every step (one entry if it is constant)."""

    change: RuntimeChange
    strengths: tuple[float, ...]


class _StrengthGroup(NamedTuple):
    """Changes with the same strengths, which form one PEFT adapter."""

    name: str
    strengths: tuple[float, ...]
    scale: Tensor
    layers: list[LoraLinear]


class RuntimeAdapters:
    """The run-time adapters of one model.

    Args:
        model: the transformer, with its linear layers under their official names.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._groups: list[_StrengthGroup] = []

    @property
    def size(self) -> int:
        """Bytes of all adapter tensors."""
        layers = [(layer, group.name) for group in self._groups for layer in group.layers]
        weights = [part[name].weight for layer, name in layers for part in (layer.lora_A, layer.lora_B)]
        return sum(weight.numel() * weight.element_size() for weight in weights)

    @staticmethod
    def can_wrap(module: nn.Module) -> bool:
        """Whether this module supports run-time changes: a linear layer, quantised or not."""
        return hasattr(module, "in_features") and hasattr(module, "out_features")

    @torch.no_grad()
    def inject(self, additions: Mapping[str, Sequence[RuntimeLora]], dtype: torch.dtype) -> None:
        """Replace all run-time changes.

        Args:
            additions: official name of a linear layer (without `.weight`) -> its changes.
            dtype: the number format in which the model computes; the adapters' tensors are rounded to it.
        """
        self.remove()
        # Constant strengths are multiplied into the tensors, so that they all form one adapter.
        keys = sorted({_key(lora) for loras in additions.values() for lora in loras})
        for index, key in enumerate(keys):
            name = f"schedule_{index}" if key else _CONSTANT
            layers = {
                layer: own
                for layer, loras in additions.items()
                if (own := [lora for lora in loras if _key(lora) == key])
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
        """Restore the plain modules."""
        if not self._groups:
            return
        for name, module in list(self._model.named_modules()):
            if isinstance(module, LoraLinear):
                _replace(self._model, name, module.get_base_layer())
        self._groups = []

    def _add(
        self, name: str, strengths: tuple[float, ...], layers: Mapping[str, Sequence[RuntimeLora]], dtype: torch.dtype
    ) -> _StrengthGroup:
        factors = {layer: _concatenated(loras, constant=not strengths) for layer, loras in layers.items()}
        self._inject_empty(name, {layer: down.shape[0] for layer, (down, _) in factors.items()})
        # One number for all layers, on the host: kernels take it as an argument, wherever the model is.
        group = _StrengthGroup(name, strengths, torch.ones((), dtype=torch.float32), [])
        for layer_name, (down, up) in factors.items():
            layer = self._wrapped(layer_name)
            device = home(next(iter([*layer.get_base_layer().parameters(), *layer.get_base_layer().buffers()])))
            layer.lora_A[name].weight = nn.Parameter(down.to(device, dtype), requires_grad=False)
            layer.lora_B[name].weight = nn.Parameter(up.to(device, dtype), requires_grad=False)
            layer.scaling[name] = group.scale
            group.layers.append(layer)
        return group

    def _wrapped(self, name: str) -> LoraLinear:
        layer = self._model.get_submodule(name)
        if not isinstance(layer, LoraLinear):
            raise TypeError(f"PEFT did not wrap {name}")
        return layer

    def _inject_empty(self, name: str, ranks: Mapping[str, int]) -> None:
        """Wrap the named layers with PEFT's, without memory for their tensors."""
        # Exact names: PEFT would also match names with the same ending.
        config = LoraConfig(
            r=1, lora_alpha=1, target_modules=list(ranks), rank_pattern=dict(ranks), inference_mode=True, bias="none"
        )
        types = {type(self._base(layer)) for layer in ranks}
        config._register_custom_module({kind: LoraLinear for kind in types if not issubclass(kind, nn.Linear)})
        with warnings.catch_warnings():
            # It warns about unknown layer classes: quantised ones, which are wrapped on purpose.
            warnings.filterwarnings("ignore", message="Unsupported layer type")
            inject_adapter_in_model(config, self._model, adapter_name=name, low_cpu_mem_usage=True)
        # PEFT stores its configuration on the model, and warns when it finds one for the next group.
        del self._model.peft_config

    def _base(self, layer: str) -> nn.Module:
        module = self._model.get_submodule(layer)
        return module.get_base_layer() if isinstance(module, LoraLinear) else module


def _key(lora: RuntimeLora) -> tuple[float, ...]:
    """Return what changes must have in common to run as one; all constant strengths count as equal."""
    return lora.strengths if len(lora.strengths) > 1 else ()


def _concatenated(loras: Sequence[RuntimeLora], *, constant: bool) -> tuple[Tensor, Tensor]:
    """Return down (sum of ranks, columns) and up (rows, sum of ranks), whose product is the sum of the changes."""
    pairs = [lora.change.factors(None) for lora in loras]
    scales = [lora.change.scale * (lora.strengths[0] if constant else 1.0) for lora in loras]
    ups = [up * scale for (up, _), scale in zip(pairs, scales, strict=True)]
    return torch.cat([down for _, down in pairs]), torch.cat(ups, dim=1)


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    owner, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(owner), attribute, module)
