"""Loads checkpoint tensors into a sharded model: every rank reads and converts its own rows, without communication.

The model was sharded on the meta device and has no values yet. From every stored tensor, which is memory-mapped, a rank
reads the rows of its shard, converts them on its own device and stores them where the shard is kept, one tensor after
the other. That is exact because rows are converted independently: the scales of int8 belong to rows.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ovi_studio.checkpoints.load import Convert
from ovi_studio.distributed.shards import as_sharded, home, local_part, own_rows


def fill(
    model: nn.Module, stored: Iterable[tuple[str, Tensor]], keep: Convert, worker: torch.device, *, offloaded: bool
) -> None:
    """Fill this rank's shards of a sharded model.

    Args:
        stored: all tensors of the model with their names, unsharded.
        keep: converts a stored tensor to what the model keeps.
        worker: the device that converts rows.
        offloaded: whether the shards are kept in host memory.
    """
    pattern = as_sharded(next(model.parameters()))
    for stored_name, tensor in stored:
        rows = tensor[own_rows(pattern, len(tensor))]
        for name, values in keep(stored_name, rows.to(worker)).items():
            _put(model, name, values, offloaded=offloaded)
    if empty := [name for name, parameter in model.named_parameters() if parameter.is_meta]:
        raise RuntimeError(f"{len(empty)} tensors were not filled, such as {empty[0]}")


def _put(model: nn.Module, name: str, values: Tensor, *, offloaded: bool) -> None:
    owner, _, attribute = name.rpartition(".")
    module = model.get_submodule(owner)
    target: DTensor = getattr(module, attribute)
    if not target.is_meta:
        return  # a tensor that the model uses twice
    device = torch.device("cpu") if offloaded else home(target)
    filled = torch.empty_like(target, dtype=values.dtype, device=device)
    own = local_part(filled)
    if own.shape != values.shape:
        raise RuntimeError(f"{name} has a shard of shape {tuple(values.shape)} instead of {tuple(own.shape)}")
    own.copy_(values)
    # Through the module, so that FSDP notices: it pads uneven shards and pins their memory.
    module.load_state_dict({attribute: filled}, strict=False, assign=True)
