"""Weights sharded over the ranks: Accelerate's plugin for PyTorch's FSDP2, in inference.

The unit is the fusion block (and the text encoder's block): it is gathered when it is called and let go of after,
except for the blocks of the resident budget, which stay. While one computes the next one arrives. Loading needs one
copy in host memory: the leader reads the file, the others build the model without memory, and every tensor goes round.

The fusion blocks are views over the towers' blocks and no registered modules, so that parameters keep their official
names; while Accelerate looks for what to wrap they stand in the towers' place.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from accelerate.utils import DistributedType, ParallelismConfig
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, register_fsdp_forward_method
from transformers import UMT5EncoderModel

from ovi_studio.checkpoints.layout import Inventory
from ovi_studio.checkpoints.load import Models, load_models
from ovi_studio.errors import JobError
from ovi_studio.memory.formats import Weights
from ovi_studio.models.transformer import OviTransformer
from ovi_studio.parallel.plan import Demand, Gpus, ShardingWish, Strategy, layout_for, plan_layout
from ovi_studio.parallel.ranks import Ranks
from ovi_studio.variants import Part, Variant


@dataclass(frozen=True)
class Sharding:
    """How weights are to lie on the ranks."""

    strategy: Strategy
    resident_blocks: int = 0
    """Of the transformer, with `FULL_SHARD` and `HYBRID_SHARD`: how many stay gathered."""
    offloaded: bool = False
    """Shards wait in host memory."""

    @property
    def shards(self) -> bool:
        """Whether a rank has a part only."""
        return self.strategy is not Strategy.NO_SHARD


def settle(wish: ShardingWish, variant: Variant, ranks: Ranks, weights: str = "bf16") -> Sharding:
    """What was wished for, and for the rest what the plan makes of the GPUs that are here; the same on all ranks.

    Args:
        weights: their format, a key of `plan.WEIGHT_BYTES`.
    """
    if wish.strategy is not None:
        return Sharding(wish.strategy, wish.resident_blocks or 0, wish.offloaded)
    planned = None
    if torch.cuda.is_available():
        own = torch.cuda.get_device_properties(torch.cuda.current_device())
        gpus = Gpus.named(ranks.count, min(ranks.everybody(own.total_memory)), own.name)
        demand = Demand.of(variant, weights=weights)
        planned = plan_layout(demand, gpus, 1, *layout_for(ranks.count, demand.sizes.heads, guided=True))
        if planned is None:
            raise JobError(
                f"{variant.name} does not fit these {ranks.count} GPUs, not even with its weights in host memory; use "
                f"int8 weights or a smaller variant."
            )
    if planned is None:  # on a CPU memory is not what decides
        return Sharding(Strategy.FULL_SHARD, wish.resident_blocks or 0, wish.offloaded)
    resident = planned.resident_blocks if wish.resident_blocks is None else wish.resident_blocks
    return Sharding(planned.strategy, resident, wish.offloaded or planned.offloaded)


def load_shared(
    inventory: Inventory, device: torch.device, dtype: torch.dtype, wish: ShardingWish, ranks: Ranks, weights: Weights
) -> Models:
    """This rank's models: its share of transformer and text encoder, and all of the others.

    Raises `JobError` on all ranks if it does on one.
    """
    sharding = settle(wish, inventory.variant, ranks, weights)
    place = torch.device("cpu" if ranks.leads else "meta")
    places = dict.fromkeys((Part.TRANSFORMER, Part.TEXT_ENCODER), place) if sharding.shards else {}
    with ranks.agreed():
        models = load_models(inventory, device, dtype, places, weights=weights)
    if sharding.shards:
        shard_transformer(models.transformer, sharding)
        shard_text_encoder(models.text_encoder, sharding)
    return models


def shard_transformer(model: OviTransformer, sharding: Sharding) -> None:
    """Leave this rank its share of a transformer that the leader has whole and the others on the meta device."""
    with fusion_blocks_as_modules(model):
        _prepare(model, "FusionBlock", sharding)
    blocks = model.fusion_blocks
    for block in blocks:
        register_fsdp_forward_method(block, "project_text")
    for method in ("velocities", "prepare_text"):
        register_fsdp_forward_method(model, method)
    stay = resident_depths(len(blocks), _resident(sharding, len(blocks)))
    for depth, block in enumerate(blocks):
        block.set_reshard_after_forward(depth not in stay, recurse=False)
    _prefetch(model, blocks, stay)


def shard_text_encoder(model: UMT5EncoderModel, sharding: Sharding) -> None:
    """The same for the text encoder; nothing of it stays gathered, since it is used once a clip."""
    # One embedding that is two modules could not be sharded: each would be in a group of its own.
    model.encoder.embed_tokens = model.shared
    _prepare(model, "UMT5Block", sharding)
    # Accelerate leaves the last norm and what is in no block gathered; that would be the embedding of every word.
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_reshard_after_forward(True, recurse=False)


def resident_depths(depth: int, count: int) -> frozenset[int]:
    """`count` of `depth` blocks, evenly spread: while one that stays computes, the next that travels arrives."""
    return frozenset(i for i in range(depth) if (i + 1) * count // depth > i * count // depth)


def _resident(sharding: Sharding, depth: int) -> int:
    return depth if sharding.strategy is Strategy.SHARD_GRAD_OP else sharding.resident_blocks


def _prepare(model: nn.Module, block: str, sharding: Sharding) -> None:
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=[block],
        reshard_after_forward=True,
        cpu_offload=_offload(sharding),
        cpu_ram_efficient_loading=True,
    )
    fsdp2_prepare_model(_accelerator(plugin, sharding), model.eval().requires_grad_(False))


def _offload(sharding: Sharding) -> Any:
    if not sharding.offloaded:
        return False
    return CPUOffloadPolicy(pin_memory=torch.cuda.is_available())


def _accelerator(plugin: FullyShardedDataParallelPlugin, sharding: Sharding) -> Accelerator:
    accelerator = _plain_accelerator()
    state = accelerator.state
    # On a CPU Accelerate would pass the plugin over; and one accelerator takes one plugin, but there are two models.
    state.distributed_type = DistributedType.FSDP
    state.fsdp_plugin = plugin
    state.device_mesh = state.parallelism_config = None
    if sharding.strategy is Strategy.HYBRID_SHARD:
        ranks = dist.get_world_size()
        if ranks % 2 or ranks < 4:
            raise JobError(f"HYBRID_SHARD needs two halves of several GPUs each, not {ranks}; use FULL_SHARD.")
        shape, names = (2, ranks // 2), ("dp_replicate", "dp_shard_cp")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        state.device_mesh = init_device_mesh(device, shape, mesh_dim_names=names)
        state.parallelism_config = ParallelismConfig(dp_replicate_size=2, dp_shard_size=ranks // 2)
    return accelerator


@cache
def _plain_accelerator() -> Accelerator:
    return Accelerator(cpu=not torch.cuda.is_available(), mixed_precision="no")


@contextmanager
def fusion_blocks_as_modules(model: OviTransformer) -> Iterator[None]:
    """Let the fusion blocks, which are views, stand where FSDP looks for modules to wrap."""
    towers = (model.video_model, model.audio_model)
    blocks = [tower.blocks for tower in towers]
    for tower in towers:
        tower.blocks = nn.ModuleList()
    # They stay registered beside the towers' blocks: FSDP looks for them again at the first use.
    model.fusion = nn.ModuleList(model.fusion_blocks)
    yield
    for tower, own in zip(towers, blocks, strict=True):
        tower.blocks = own


def _prefetch(model: Any, blocks: tuple[Any, ...], stay: frozenset[int]) -> None:
    """Let every block ask for those behind it: the next one, and beyond blocks that stay the next that travels."""
    model.set_modules_to_forward_prefetch([blocks[0]])
    for depth, block in enumerate(blocks[:-1]):
        behind = range(depth + 1, len(blocks))
        travelling = next((other for other in behind if other not in stay), None)
        wanted = {depth + 1} | ({travelling} if travelling is not None else set())
        block.set_modules_to_forward_prefetch([blocks[other] for other in sorted(wanted)])
