"""Weights sharded over the ranks: Accelerate's plugin for PyTorch's FSDP2, in inference.

The unit is the fusion block (and the text encoder's block): it is gathered when it is called and resharded after,
except for the resident blocks, which stay gathered. While one block computes, the next is being gathered. Models are
built and sharded on the meta device, without memory; then every rank fills its own shards (`filling`).

The fusion blocks are views over the towers' blocks, not registered modules, so that parameters keep their official
names; they are registered in place of the towers' blocks while Accelerate looks for modules to wrap.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache

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
from ovi_studio.models.transformer import OviTransformer, Tower

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sharding:
    """How weights are distributed over the ranks."""

    strategy: Strategy
    resident_blocks: int = 0
    """How many blocks of the transformer stay gathered, with `FULL_SHARD` and `HYBRID_SHARD`."""
    offloaded: bool = False
    """Whether shards are kept in host memory."""
    pinned: bool = False
    """Whether that host memory is pinned, so that a block can be copied while another computes."""

    @property
    def shards(self) -> bool:
        """Whether a rank holds only a part of the weights."""
        return self.strategy is not Strategy.NO_SHARD

    def residents(self, blocks: int, less: int = 0) -> int:
        """Return how many of a model's blocks stay gathered, if other uses need the memory of `less` blocks."""
        gathered = blocks if self.strategy in (Strategy.NO_SHARD, Strategy.SHARD_GRAD_OP) else self.resident_blocks
        return gathered if self.strategy is Strategy.NO_SHARD else max(0, min(gathered, blocks) - less)


def resolve_sharding(
    requested: ShardingOptions, variant: Variant, ranks: Ranks, weights: Weights = Weights.BF16
) -> Sharding:
    """Return the requested sharding, completed by the plan for the GPUs of this machine; the same on all ranks.

    Raises `JobError` if the largest clip of the variant does not fit the GPUs.
    """
    if requested.strategy is not None:
        return Sharding(requested.strategy, requested.resident_blocks or 0, requested.offloaded)
    planned = None
    if torch.cuda.is_available():
        device = compute_device()
        free = min(ranks.all_gather(usable_memory(device)))
        gpus = Gpus.named(ranks.count, free, torch.cuda.get_device_name(device))
        planned = plan_sharding(Demand.largest(variant, weights), gpus)
        if planned is None:
            raise JobError(
                f"{variant.name} does not fit {gpus}, not even with its weights in host memory; end other programs "
                f"that use the GPUs, or use int8 weights or a smaller variant."
            )
    if planned is None:  # on a CPU memory does not decide
        return Sharding(Strategy.FULL_SHARD, requested.resident_blocks or 0, requested.offloaded)
    resident = planned.resident_blocks if requested.resident_blocks is None else requested.resident_blocks
    return Sharding(planned.strategy, resident, requested.offloaded or planned.offloaded)


def load_shared(
    inventory: Inventory, device: torch.device, dtype: torch.dtype, sharding: Sharding, ranks: Ranks, weights: Weights
) -> Models:
    """Load this rank's models: its shards of the transformer and the text encoder, and the whole of the others.

    Weights are converted on this rank's GPU, even if they are kept in host memory afterwards.

    Raises `JobError` on all ranks if one of them fails.
    """
    worker = compute_device()
    with ranks.share_errors():
        _check_host_memory(inventory, weights, sharding, ranks, device, worker)
    if not sharding.shards:
        with ranks.share_errors():
            return load_models(inventory, device, dtype, weights=weights, worker=worker)
    formats = {
        Part.TRANSFORMER: transformer_format(weights, dtype),
        Part.TEXT_ENCODER: text_encoder_format(dtype),
    }
    with ranks.share_errors():
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
    with ranks.share_errors():
        for part, model in sharded.items():
            fill(model, stored_tensors(inventory, part), formats[part], worker, offloaded=sharding.offloaded)
    return models


def shard_transformer(model: OviTransformer, sharding: Sharding) -> None:
    """Shard a transformer on the meta device; its shards have no values yet."""
    with fusion_blocks_as_modules(model):
        _prepare(model, "FusionBlock", sharding)
    for block in model.fusion_blocks:
        register_fsdp_forward_method(block, "project_text")
    for method in ("velocities", "prepare_text"):
        register_fsdp_forward_method(model, method)
    keep_gathered(model, sharding.residents(len(model.fusion_blocks)))


def keep_gathered(model: OviTransformer, resident: int) -> None:
    """Keep `resident` blocks of a sharded transformer gathered, from the next pass on."""
    blocks = _sharded_blocks(model)
    stay = resident_depths(len(blocks), resident)
    for depth, block in enumerate(blocks):
        block.set_reshard_after_forward(depth not in stay, recurse=False)
    _prefetch(model, blocks, stay)


def shard_text_encoder(model: UMT5EncoderModel, sharding: Sharding) -> None:
    """Shard a text encoder on the meta device; none of it stays gathered, since it is used once per clip."""
    # An embedding shared by two modules could not be sharded: each would be in its own group.
    model.encoder.embed_tokens = model.shared
    _prepare(model, "UMT5Block", sharding)
    # Accelerate keeps the last norm and what is in no block gathered; that would include the embedding of every token.
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_reshard_after_forward(True, recurse=False)


def resident_depths(depth: int, count: int) -> frozenset[int]:
    """Pick `count` of `depth` blocks, evenly spread: while a resident block computes, the next other is gathered."""
    return frozenset(i for i in range(depth) if (i + 1) * count // depth > i * count // depth)


def _prepare(model: nn.Module, block: str, sharding: Sharding) -> None:
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=[block],
        reshard_after_forward=True,
        cpu_offload=_offload(sharding),
        # It would broadcast every weight from the leader.
        cpu_ram_efficient_loading=False,
    )
    for parameter in model.eval().requires_grad_(False).parameters():
        # torch 2.11 creates shards that require a gradient, which integers cannot; 2.13 does not. On the meta device
        # the format does not matter yet: the right one comes with the values.
        if not parameter.is_floating_point():
            parameter.data = parameter.data.float()
    fsdp2_prepare_model(_accelerator(plugin, sharding), model)


def _offload(sharding: Sharding) -> CPUOffloadPolicy | bool:
    return CPUOffloadPolicy(pin_memory=sharding.pinned) if sharding.offloaded else False


def _check_host_memory(
    inventory: Inventory, weights: Weights, sharding: Sharding, ranks: Ranks, home: torch.device, worker: torch.device
) -> None:
    """Raise `JobError` if host memory is too small for all ranks of this machine.

    Args:
        home: the device of models that are not in use.
        worker: the device that computes.
    """
    variant, needed = inventory.variant, 0.0
    if sharding.shards and sharding.offloaded:
        needed = _copies(sharding) * shareable_bytes(Demand.of(variant, weights=weights))
    elif not sharding.shards and home.type == "cpu":
        # Weights in the files' own format are memory maps, which the ranks share.
        on_gpu = worker.type == "cuda"
        needed = ranks.count * own_host_bytes(variant, weights, on_gpu=on_gpu, converted=inventory.converted)
    if needed and ranks.is_leader:
        require_host_memory(needed, variant.name, "shard over more GPUs without --fsdp-offload, or use int8 weights")


def can_be_pinned(models: Iterable[nn.Module], sharding: Sharding, ranks: Ranks) -> bool:
    """Whether there is enough host memory for pinned shards of these models, which are not allocated yet.

    Every rank gets the leader's answer.
    """
    parts = ranks.count // _copies(sharding)
    needed = ranks.count * sum(pinned_bytes(parameter, parts) for model in models for parameter in model.parameters())
    available = host_memory().available
    fits = ranks.broadcast(needed + PINNED_RESERVE <= available)
    if not fits and ranks.is_leader:
        log.warning(
            "Pinned weights would take %.0f GB of host memory, but only %.0f GB are available: the weights stay in "
            "pageable memory, from which copies are slower.",
            needed / 1e9,
            available / 1e9,
        )
    return fits


def pinned_bytes(parameter: Tensor, parts: int) -> int:
    """Return the pinned memory of the largest of so many shards; torch allocates it in powers of two."""
    rows = -(-parameter.shape[0] // parts)
    size = rows * parameter[0].numel() * parameter.element_size()
    return 1 << (size - 1).bit_length()


def _copies(sharding: Sharding) -> int:
    """Return how many copies of the whole model all ranks hold together."""
    return 2 if sharding.strategy is Strategy.HYBRID_SHARD else 1


def _accelerator(plugin: FullyShardedDataParallelPlugin, sharding: Sharding) -> Accelerator:
    accelerator = _plain_accelerator()
    state = accelerator.state
    # On a CPU Accelerate would ignore the plugin; and it takes a single plugin, but there are two models.
    state.distributed_type = DistributedType.FSDP
    state.fsdp_plugin = plugin
    state.device_mesh = state.parallelism_config = None
    if sharding.strategy is Strategy.HYBRID_SHARD:
        ranks = dist.get_world_size()
        if ranks % 2 or ranks < 4:
            raise JobError(f"HYBRID_SHARD needs an even number of at least 4 GPUs, not {ranks}; use FULL_SHARD.")
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
    """Register the fusion blocks, which are views, where FSDP looks for modules to wrap."""
    towers: tuple[Tower, ...] = (model.video_model, model.audio_model)
    blocks = [tower.blocks for tower in towers]
    for tower in towers:
        tower.blocks = nn.ModuleList()
    # They stay registered in addition to the towers' blocks: FSDP looks for them again at the first use.
    model.fusion = nn.ModuleList(model.fusion_blocks)
    yield
    for tower, own in zip(towers, blocks, strict=True):
        tower.blocks = own


def _sharded_blocks(model: OviTransformer) -> list[FSDPModule]:
    return [block for block in model.fusion_blocks if isinstance(block, FSDPModule)]


def _prefetch(model: OviTransformer, blocks: Sequence[FSDPModule], stay: frozenset[int]) -> None:
    """Let every block prefetch the next one, and the next one that is not resident."""
    model.set_modules_to_forward_prefetch([blocks[0]])
    for depth, block in enumerate(blocks[:-1]):
        later = range(depth + 1, len(blocks))
        gathered_next = next((other for other in later if other not in stay), None)
        wanted = {depth + 1} | ({gathered_next} if gathered_next is not None else set())
        block.set_modules_to_forward_prefetch([blocks[other] for other in sorted(wanted)])
