"""Reads and writes single weights that may be sharded over the ranks as if they were whole."""

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor

from ovi_studio.models.device import compute_device


def as_sharded(tensor: Tensor) -> DTensor:
    """Return a tensor that must be sharded; raises TypeError if it is not."""
    if not isinstance(tensor, DTensor):
        raise TypeError("the model is not sharded")
    return tensor


def local_part(tensor: Tensor) -> Tensor:
    """Return this rank's part of a weight; writing to it writes to the weight."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor, part: Tensor | None = None) -> Tensor:
    """Gather a weight on the device; every rank must call this.

    Args:
        part: values to use instead of this rank's part of the weight.
    """
    part = local_part(tensor) if part is None else part
    if not isinstance(tensor, DTensor):
        return part
    moved = DTensor.from_local(
        part.to(home(tensor)),
        tensor.device_mesh,
        tensor.placements,
        run_check=False,
        shape=tensor.shape,
        stride=tensor.stride(),
    )
    return moved.full_tensor()


def part_of(tensor: Tensor, values: Tensor) -> Tensor:
    """Return this rank's part of whole values for a weight."""
    if not isinstance(tensor, DTensor):
        return values
    # Without a source each rank cuts its part out of its own copy.
    return distribute_tensor(values, tensor.device_mesh, tensor.placements, src_data_rank=None).to_local()


def own_rows(pattern: DTensor, count: int) -> slice:
    """Return which of `count` rows this rank holds of a tensor sharded by rows as `pattern` is; may be empty."""
    (shard,) = (dim for dim, placement in enumerate(pattern.placements) if placement.is_shard(0))
    ranks, rank = pattern.device_mesh.size(shard), pattern.device_mesh.get_local_rank(shard)
    most = -(-count // ranks)
    return slice(min(rank * most, count), min((rank + 1) * most, count))


def write(target: Tensor, values: Tensor) -> None:
    """Write whole values, which every rank passes in the weight's number format; each rank keeps its part."""
    local_part(target).copy_(part_of(target, values))


def home(tensor: Tensor) -> torch.device:
    """Return the device where a weight is used, which is not where it is kept if it is offloaded."""
    if not isinstance(tensor, DTensor):
        return tensor.device
    return compute_device() if tensor.device_mesh.device_type == "cuda" else torch.device("cpu")


def is_sharded(model: nn.Module) -> bool:
    """Whether this rank holds only a part of the model."""
    return isinstance(model, FSDPModule)


def reshard(model: nn.Module) -> None:
    """Free all gathered weights of a sharded model; until they are gathered again, its shards can be written."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
