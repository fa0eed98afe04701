"""Weights and training state divided over several processes: Accelerate's plugin for PyTorch's FSDP2.

The unit is the fusion block. Fusion blocks are views over the towers' blocks and no registered modules, so that
parameters keep their official names; while Accelerate looks for what to wrap they stand in the towers' place. Frozen
weights are divided like those that are trained.
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
    """Leave this process its share of the model, which the leader has whole and the others on the meta device."""
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=["FusionBlock"],
        reshard_after_forward=True,
        cpu_ram_efficient_loading=True,
    )
    # On a CPU Accelerate would pass the plugin over.
    accelerator.state.distributed_type = DistributedType.FSDP
    accelerator.state.fsdp_plugin = plugin
    with fusion_blocks_as_modules(model.transformer):
        plugin.set_auto_wrap_policy(model)
        sharded = fsdp2_prepare_model(accelerator, model)
    for block in model.transformer.fusion_blocks:
        register_fsdp_forward_method(block, "project_text")
    return sharded


def whole(value: Any, *, kept: bool = True) -> Any:
    """Tensors, or lists and dictionaries of them, gathered on the host; every process must ask for them.

    Args:
        kept: whether this process wants them; else it has nothing in their place, and needs no memory for them.
    """
    if isinstance(value, dict):
        return {key: whole(part, kept=kept) for key, part in value.items()}
    if isinstance(value, list):
        return [whole(part, kept=kept) for part in value]
    if isinstance(value, Tensor):
        tensor = gathered(value)
        return tensor.detach().cpu() if kept else None
    return value


def gathered(tensor: Tensor) -> Tensor:
    """A tensor that may be divided, whole; every process must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shared_like(values: Tensor, pattern: Tensor) -> Tensor:
    """Whole values as this process holds `pattern`: its share, if that is divided and of their shape."""
    if not isinstance(pattern, DTensor) or values.shape != pattern.shape:
        return values
    on_device = values.to(pattern.device)
    return distribute_tensor(on_device, pattern.device_mesh, pattern.placements, src_data_rank=None)


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Restore a state that `whole` gathered."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    own = {
        index: {
            name: shared_like(value, parameters[index]) if isinstance(value, Tensor) else value
            for name, value in values.items()
        }
        for index, values in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": own})
