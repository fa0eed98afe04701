"""The process behind the check `sharded`, the only rank of its group. Writes the results per number format as JSON.

The checkpoint is a bundle with random weights, so that weights are loaded as usual: file, leader, shards. Its blocks
have half the published width, because int8 weights are made on the host.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from ovi_studio.core.imports import without_collecting

with without_collecting():
    import torch
    from tiny_model import BUNDLE, DIMENSIONS

    from gpu.bundles import bundle
    from gpu.check import Rig
    from gpu.device import measured
    from gpu.random_models import fusion_dimensions, random_transformer
    from gpu.steps import StepInputs, guided_step, relative_error
    from ovi_studio.capacity.layouts import Strategy
    from ovi_studio.checkpoints.layout import Inventory, require
    from ovi_studio.checkpoints.load import load_models
    from ovi_studio.core.errors import JobError
    from ovi_studio.core.weight_formats import Weights
    from ovi_studio.demo.bundle_writer import build_models, write_bundle
    from ovi_studio.distributed.ranks import RankGroup, Ranks
    from ovi_studio.distributed.sharding import Sharding, load_shared
    from ovi_studio.distributed.shards import is_sharded
    from ovi_studio.models.device import compute_device
    from ovi_studio.models.precision import check_weights
    from ovi_studio.models.transformer import OviTransformer


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("answer", type=Path)
    options.add_argument("folder", type=Path)
    options.add_argument("--small", action="store_true")
    given = options.parse_args()
    ranks = RankGroup()
    rig = Rig(compute_device(), given.small, given.folder)
    inventory = bundle(rig) if rig.small else _wide_bundle(rig)
    answer = {str(weights): compare(rig, inventory, ranks, weights) for weights in _formats(rig)}
    given.answer.write_text(json.dumps(answer))
    ranks.close()


def _formats(rig: Rig) -> tuple[Weights, ...]:
    everywhere = (Weights.BF16, Weights.INT8)
    if rig.on_gpu:  # a CPU computes fp8 products too, if only for checks
        try:
            check_weights(Weights.FP8_FAST, rig.device)
        except JobError:
            return everywhere
    return (*everywhere, Weights.FP8_FAST)


def compare(rig: Rig, inventory: Inventory, ranks: Ranks, weights: Weights) -> dict[str, Any]:
    """Return the relative error of a guided step's velocities, seconds of the second step, and the number of shards."""
    fusion = inventory.variant.dimensions["fusion"]
    latents = ((5, 4, 4), 22) if rig.small else ((31, 32, 32), 157)
    inputs = StepInputs.random(fusion, *latents, rig.device, rig.dtype)
    plain = load_models(inventory, rig.device, rig.dtype, weights=weights).transformer
    expected, plain_seconds = _step(rig, plain, inputs)
    model = load_sharded(rig, inventory, ranks, weights)
    velocities, seconds = _step(rig, model, inputs)
    difference = max(relative_error(*pair) for pair in zip(velocities, expected, strict=True))
    return {
        "difference": difference,
        "plain": plain_seconds,
        "sharded": seconds,
        "shards": sum(1 for _ in model.parameters()) if is_sharded(model) else 0,
    }


def load_sharded(rig: Rig, inventory: Inventory, ranks: Ranks, weights: Weights) -> OviTransformer:
    """Load this rank's shard, in one place."""
    sharding = Sharding(Strategy.FULL_SHARD, resident_blocks=1)
    return load_shared(inventory, rig.device, rig.dtype, sharding, ranks, weights).transformer


def _step(rig: Rig, model: OviTransformer, inputs: StepInputs) -> Any:
    with torch.no_grad():
        guidance = inputs.guidance(model)
    guided_step(model, inputs, guidance)
    with measured(rig.device) as work:
        velocities = guided_step(model, inputs, guidance)
    return velocities, work.seconds


def _wide_bundle(rig: Rig) -> Inventory:
    """Write the tiny model's codecs and text encoder with a transformer of half the width and few blocks."""
    text_dim = DIMENSIONS["text_encoder"]["dim"]
    sizes = {"dim": 1536, "ffn_dim": 7168, "num_heads": 12, "text_dim": text_dim}
    dimensions = DIMENSIONS | {"fusion": fusion_dimensions(rig, layers=4, **sizes)}
    models = build_models(DIMENSIONS)
    wide = random_transformer(rig, dimensions["fusion"], rig.device)
    folder = rig.folder / "wide"
    # Only the transformer is compared; it does not have to match the codecs.
    write_bundle({**BUNDLE, "dimensions": dimensions}, _with(models, wide), folder, torch.bfloat16)
    return require(BUNDLE["name"], folder)


def _with(models: Any, transformer: OviTransformer) -> Any:
    return type(models)(**{**vars(models), "transformer": transformer})


if __name__ == "__main__":
    main()
