"""Single weights that may be sharded over the ranks, read and written as if they were whole; others as they are."""

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from ovi_studio.models.device import compute_device


def local_part(tensor: Tensor) -> Tensor:
    """What of it this rank has; writing to it writes to the weight."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor, part: Tensor | None = None) -> Tensor:
    """All of a weight, on the device; every rank must ask for it.

    Args:
        part: other values in place of this rank's part of them.
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
    """This rank's part of whole values for a weight."""
    if not isinstance(tensor, DTensor):
        return values
    # Without a source everybody cuts its own part out of what it has.
    return distribute_tensor(values, tensor.device_mesh, tensor.placements, src_data_rank=None).to_local()


def own_rows(pattern: DTensor, count: int) -> slice:
    """Which of `count` rows this rank has of a tensor that is sharded by rows as `pattern` is; none, for some."""
    (shard,) = (dim for dim, placement in enumerate(pattern.placements) if placement.is_shard(0))
    ranks, rank = pattern.device_mesh.size(shard), pattern.device_mesh.get_local_rank(shard)
    most = -(-count // ranks)
    return slice(min(rank * most, count), min((rank + 1) * most, count))


def write(target: Tensor, values: Tensor) -> None:
    """Give a weight whole values in its number format, which every rank has; each keeps its part."""
    local_part(target).copy_(part_of(target, values))


def home(tensor: Tensor) -> torch.device:
    """Where a weight is used, which is not where it waits if it is offloaded."""
    if not isinstance(tensor, DTensor):
        return tensor.device
    return compute_device() if tensor.device_mesh.device_type == "cuda" else torch.device("cpu")


def is_sharded(model: nn.Module) -> bool:
    """Whether this rank has a part of it only."""
    return hasattr(model, "reshard")


def reshard(model: nn.Module) -> None:
    """Free what is gathered of a sharded model: until it is gathered again it can be written, and takes no memory."""
    for module in model.modules():
        if hasattr(module, "reshard"):
            module.reshard()
