"""Weights sharded over the ranks: Accelerate's plugin for PyTorch's FSDP2, in inference.

The unit is the fusion block (and the text encoder's block): it is gathered when it is called and let go of after,
except for the blocks of the resident budget, which stay. While one computes the next one arrives. Models are built and
sharded on the meta device, without memory; then every rank fills its own shards (`filling`).

The fusion blocks are views over the towers' blocks and no registered modules, so that parameters keep their official
names; while Accelerate looks for what to wrap they stand in the towers' place.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from accelerate.utils import DistributedType, ParallelismConfig
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, register_fsdp_forward_method
from transformers import UMT5EncoderModel

from ovi_studio.capacity.budget import PINNED_RESERVE
from ovi_studio.capacity.host import host_memory, require_host_memory
from ovi_studio.capacity.layouts import Gpus, ShardingOptions, Strategy, plan_sharding
from ovi_studio.capacity.memory import Demand, own_host_bytes, shareable_bytes
from ovi_studio.checkpoints.layout import Inventory
from ovi_studio.checkpoints.load import (
    Models,
    check,
    load_models,
    stored_tensors,
    text_encoder_format,
    transformer_format,
)
from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import Part, Variant
from ovi_studio.core.weight_formats import Weights
from ovi_studio.distributed.filling import fill
from ovi_studio.distributed.ranks import Ranks
from ovi_studio.models.device import compute_device, usable_memory
from ovi_studio.models.transformer import OviTransformer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sharding:
    """How weights are to lie on the ranks."""

    strategy: Strategy
    resident_blocks: int = 0
    """Of the transformer, with `FULL_SHARD` and `HYBRID_SHARD`: how many stay gathered."""
    offloaded: bool = False
    """Shards wait in host memory."""
    pinned: bool = False
    """That memory is pinned, so that a block arrives while another computes."""

    @property
    def shards(self) -> bool:
        """Whether a rank has a part only."""
        return self.strategy is not Strategy.NO_SHARD

    def residents(self, blocks: int, less: int = 0) -> int:
        """How many of a model's blocks stay gathered, where others need the memory of so many."""
        gathered = blocks if self.strategy in (Strategy.NO_SHARD, Strategy.SHARD_GRAD_OP) else self.resident_blocks
        return gathered if self.strategy is Strategy.NO_SHARD else max(0, min(gathered, blocks) - less)


def resolve_sharding(
    wish: ShardingOptions, variant: Variant, ranks: Ranks, weights: Weights = Weights.BF16
) -> Sharding:
    """What was wished for, and for the rest what the plan makes of the GPUs that are here; the same on all ranks.

    Raises `JobError` if the largest clip of the variant does not fit them.
    """
    if wish.strategy is not None:
        return Sharding(wish.strategy, wish.resident_blocks or 0, wish.offloaded)
    planned = None
    if torch.cuda.is_available():
        device = compute_device()
        free = min(ranks.everybody(usable_memory(device)))
        gpus = Gpus.named(ranks.count, free, torch.cuda.get_device_name(device))
        planned = plan_sharding(Demand.largest(variant, weights), gpus)
        if planned is None:
            raise JobError(
                f"{variant.name} does not fit {gpus}, not even with its weights in host memory; end what else uses "
                f"them, use int8 weights or a smaller variant."
            )
    if planned is None:  # on a CPU memory is not what decides
        return Sharding(Strategy.FULL_SHARD, wish.resident_blocks or 0, wish.offloaded)
    resident = planned.resident_blocks if wish.resident_blocks is None else wish.resident_blocks
    return Sharding(planned.strategy, resident, wish.offloaded or planned.offloaded)


def load_shared(
    inventory: Inventory, device: torch.device, dtype: torch.dtype, sharding: Sharding, ranks: Ranks, weights: Weights
) -> Models:
    """This rank's models: its share of transformer and text encoder, and all of the others.

    Weights in a format of their own are made on this rank's GPU, wherever they wait afterwards.

    Raises `JobError` on all ranks if it does on one.
    """
    worker = compute_device()
    with ranks.agreed():
        _check_host_memory(inventory.variant, weights, sharding, ranks, device, worker)
    if not sharding.shards:
        with ranks.agreed():
            return load_models(inventory, device, dtype, weights=weights, worker=worker)
    formats = {
        Part.TRANSFORMER: transformer_format(weights, dtype),
        Part.TEXT_ENCODER: text_encoder_format(dtype),
    }
    with ranks.agreed():
        models = load_models(
            inventory, device, dtype, dict.fromkeys(formats, torch.device("meta")), weights=weights, worker=worker
        )
        sharded = {Part.TRANSFORMER: models.transformer, Part.TEXT_ENCODER: models.text_encoder}
        for part, model in sharded.items():
            check(model, inventory, part, formats[part])
    if sharding.offloaded and worker.type == "cuda":
        sharding = replace(sharding, pinned=can_be_pinned(sharded.values(), sharding, ranks))
    shard_transformer(models.transformer, sharding)
    shard_text_encoder(models.text_encoder, sharding)
    with ranks.agreed():
        for part, model in sharded.items():
            fill(model, stored_tensors(inventory, part), formats[part], worker, offloaded=sharding.offloaded)
    return models


def shard_transformer(model: OviTransformer, sharding: Sharding) -> None:
    """Divide a transformer on the meta device; its shards have no values yet."""
    with fusion_blocks_as_modules(model):
        _prepare(model, "FusionBlock", sharding)
    blocks = model.fusion_blocks
    for block in blocks:
        register_fsdp_forward_method(block, "project_text")
    for method in ("velocities", "prepare_text"):
        register_fsdp_forward_method(model, method)
    keep_gathered(model, sharding.residents(len(blocks)))


def keep_gathered(model: OviTransformer, resident: int) -> None:
    """Let so many blocks of a sharded transformer stay gathered, from the next pass on."""
    blocks = model.fusion_blocks
    stay = resident_depths(len(blocks), resident)
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


def _prepare(model: nn.Module, block: str, sharding: Sharding) -> None:
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=[block],
        reshard_after_forward=True,
        cpu_offload=_offload(sharding),
        # It would send everything round from the leader.
        cpu_ram_efficient_loading=False,
    )
    for parameter in model.eval().requires_grad_(False).parameters():
        # Torch 2.11 makes every shard as if it were trained, which integers refuse; 2.13 does not. On the meta device a
        # format is no more than a note, and the right one comes with the values.
        if not parameter.is_floating_point():
            parameter.data = parameter.data.float()
    fsdp2_prepare_model(_accelerator(plugin, sharding), model)


def _offload(sharding: Sharding) -> Any:
    return CPUOffloadPolicy(pin_memory=sharding.pinned) if sharding.offloaded else False


def _check_host_memory(
    variant: Variant, weights: Weights, sharding: Sharding, ranks: Ranks, home: torch.device, worker: torch.device
) -> None:
    """Raises `JobError` if host memory is too small for all ranks of this machine.

    Args:
        home: where models are while they are not used.
        worker: where they compute.
    """
    needed = 0.0
    if sharding.shards and sharding.offloaded:
        needed = _copies(sharding) * shareable_bytes(Demand.of(variant, weights=weights))
    elif not sharding.shards and home.type == "cpu":
        # What is used as the files have it is their memory map, which the ranks share.
        needed = ranks.count * own_host_bytes(variant, weights, on_gpu=worker.type == "cuda")
    if needed and ranks.leads:
        require_host_memory(needed, variant.name, "shard over more GPUs without --fsdp-offload, or use int8 weights")


def can_be_pinned(models: Iterable[nn.Module], sharding: Sharding, ranks: Ranks) -> bool:
    """Whether host memory is enough for pinned shards of these models, whose memory is still to be had; on all ranks
    what the leader finds."""
    parts = ranks.count // _copies(sharding)
    needed = ranks.count * sum(pinned_bytes(parameter, parts) for model in models for parameter in model.parameters())
    available = host_memory().available
    fits = ranks.tell(needed + PINNED_RESERVE <= available)
    if not fits and ranks.leads:
        log.warning(
            "Pinned, the weights would take %.0f GB of host memory, and %.0f GB are available: they wait in pageable "
            "memory, from which they come more slowly.",
            needed / 1e9,
            available / 1e9,
        )
    return fits


def pinned_bytes(parameter: Tensor, parts: int) -> int:
    """What the largest of so many shards takes of pinned memory, which torch allocates in powers of two."""
    rows = -(-parameter.shape[0] // parts)
    size = rows * parameter[0].numel() * parameter.element_size()
    return 1 << (size - 1).bit_length()


def _copies(sharding: Sharding) -> int:
    """Of the whole model, on all ranks together."""
    return 2 if sharding.strategy is Strategy.HYBRID_SHARD else 1


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
        copies = _copies(sharding)
        shape, names = (copies, ranks // copies), ("dp_replicate", "dp_shard_cp")
        state.device_mesh = init_device_mesh(compute_device().type, shape, mesh_dim_names=names)
        state.parallelism_config = ParallelismConfig(dp_replicate_size=copies, dp_shard_size=ranks // copies)
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
