"""Weights and training state sharded over several processes: Accelerate's plugin for PyTorch's FSDP2.

The unit is the fusion block. Fusion blocks are views over the towers' blocks and not registered modules, so that
parameters keep their official names; while Accelerate looks for modules to wrap they replace the towers' blocks. Frozen
weights are sharded like trained ones.
"""

from typing import Any

import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from accelerate.utils import DistributedType
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from torch import Tensor, nn
from torch.distributed.fsdp import register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from ovi_studio.distributed.sharding import fusion_blocks_as_modules
from ovi_studio.training.flow import VelocityModel


def shard(accelerator: Accelerator, model: VelocityModel) -> nn.Module:
    """Shard a model that the leader holds whole and the other processes on the meta device."""
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=["FusionBlock"],
        reshard_after_forward=True,
        cpu_ram_efficient_loading=True,
    )
    # On a CPU Accelerate would ignore the plugin.
    accelerator.state.distributed_type = DistributedType.FSDP
    accelerator.state.fsdp_plugin = plugin
    with fusion_blocks_as_modules(model.transformer):
        plugin.set_auto_wrap_policy(model)
        sharded = fsdp2_prepare_model(accelerator, model)
    for block in model.transformer.fusion_blocks:
        register_fsdp_forward_method(block, "project_text")
    return sharded


def gather_all(value: Any, *, keep: bool) -> Any:
    """Gather tensors, or nested lists and dictionaries of them, on the host. Every process must call it.

    Args:
        keep: whether this process needs the result; otherwise it gets None for each tensor and uses no memory.
    """
    if isinstance(value, dict):
        return {key: gather_all(part, keep=keep) for key, part in value.items()}
    if isinstance(value, list):
        return [gather_all(part, keep=keep) for part in value]
    if isinstance(value, Tensor):
        tensor = gather(value)
        return tensor.detach().cpu() if keep else None
    return value


def gather(tensor: Tensor) -> Tensor:
    """Return the whole of a tensor that may be sharded. Every process must call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shard_like(values: Tensor, pattern: Tensor) -> Tensor:
    """Return this process's shard of `values` if `pattern` is sharded and of the same shape, else all values."""
    if not isinstance(pattern, DTensor) or values.shape != pattern.shape:
        return values
    on_device = values.to(pattern.device)
    return distribute_tensor(on_device, pattern.device_mesh, pattern.placements, src_data_rank=None)


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Restore an optimizer state gathered by `gather_all`."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    own = {
        index: {
            name: shard_like(value, parameters[index]) if isinstance(value, Tensor) else value
            for name, value in values.items()
        }
        for index, values in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": own})
