"""Checkpoint tensors into a sharded model: every rank reads and converts its own rows, and nothing travels.

The model was sharded on the meta device and has no values yet. Of every stored tensor, which is memory-mapped, a rank
reads the rows that it holds, converts them on its own device and puts them where its share lives, one tensor after
the other. That is exact because each row is converted by itself: the scales of int8 belong to rows.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ovi_studio.checkpoints.load import Convert
from ovi_studio.distributed.shards import home, own_rows


def fill(
    model: nn.Module, stored: Iterable[tuple[str, Tensor]], keep: Convert, worker: torch.device, *, offloaded: bool
) -> None:
    """Give this rank its share of a sharded model.

    Args:
        stored: all tensors of the model and their names, whole.
        keep: makes them what the model keeps.
        worker: where rows are converted.
        offloaded: the share waits in host memory.
    """
    pattern = next(model.parameters())
    for stored_name, tensor in stored:
        rows = tensor[own_rows(pattern, len(tensor))]
        for name, values in keep(stored_name, rows.to(worker)).items():
            _put(model, name, values, offloaded=offloaded)
    if empty := [name for name, parameter in model.named_parameters() if parameter.is_meta]:
        raise RuntimeError(f"{len(empty)} tensors have no values, such as {empty[0]}")


def _put(model: nn.Module, name: str, values: Tensor, *, offloaded: bool) -> None:
    owner, _, attribute = name.rpartition(".")
    module = model.get_submodule(owner)
    target: DTensor = getattr(module, attribute)
    if not target.is_meta:
        return  # a tensor that the model has twice
    device = torch.device("cpu") if offloaded else home(target)
    filled = torch.empty_like(target, dtype=values.dtype, device=device)
    own = filled.to_local()
    if own.shape != values.shape:
        raise RuntimeError(f"{name} has rows of shape {tuple(values.shape)} instead of {tuple(own.shape)}")
    own.copy_(values)
    # Through the module, so that FSDP notices: it pads what does not divide evenly, and pins it.
    module.load_state_dict({attribute: filled}, strict=False, assign=True)
