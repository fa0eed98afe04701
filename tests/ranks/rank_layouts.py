"""Run on several ranks: every layout of a step compared with one process, on a model with odd numbers of tokens.

Writes a JSON file with, for each case, the largest difference between any rank's result and that of one process, and
what travelled and what lies where.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from rank_helpers import counted_traffic
from reference_adapters import AUDIO, DIFFERENCES, DORA, LORA, REFERENCE, build_model, reference_file, use
from safetensors.torch import load_file
from torch import Tensor
from torch.distributed.fsdp._fully_shard import _fsdp_param

from ovi_studio.adapters.manager import AdapterManager
from ovi_studio.capacity.layouts import Strategy
from ovi_studio.checkpoints.load import assign, transformer_format
from ovi_studio.checkpoints.number_formats import as_loaded, convert, official_shapes, prepare
from ovi_studio.core.weight_formats import Weights
from ovi_studio.distributed.filling import fill
from ovi_studio.distributed.ranks import Ranks, join_ranks
from ovi_studio.distributed.sharding import Sharding, shard_transformer
from ovi_studio.distributed.shards import local_part, reshard
from ovi_studio.models.transformer import OviTransformer
from ovi_studio.sampling.guidance import Guidance, guided_velocity

SHAPES = {"45 tokens": (3, 6, 10), "24 tokens": (2, 6, 8), "2 tokens": (1, 2, 4)}
AUDIO_LENGTH = 11
STACKS = {
    "fused": ([use(LORA), use(AUDIO, 0.7), use(DORA, 0.3), use(DIFFERENCES, 0.5)], 2),
    "at run time": ([use(LORA, "0.2;1"), use(AUDIO, "1;0.1")], 4),
    "fused again": ([use(LORA, 0.4)], 2),
    "none": ([], 2),
}
Velocities = tuple[Tensor, Tensor]


def random(*size: int, seed: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def guidance(model: OviTransformer, *, guided: bool, skip: int | None, dtype: torch.dtype = torch.float32) -> Guidance:
    texts = [random(1, count, 32, seed=seed).to(dtype) for count, seed in ((7, 3), (5, 4), (9, 5))]
    negative = model.prepare_text(texts[1], texts[2]) if guided else None
    return Guidance(model.prepare_text(texts[0], texts[0]), negative, 4.0, 3.0, skip)


def step(
    model: OviTransformer,
    shape: tuple[int, int, int],
    ranks: Ranks,
    *,
    clean: bool,
    dtype: torch.dtype = torch.float32,
    **case: Any,
) -> Velocities:
    """Compute one step; in one process if `ranks` is `ALONE`."""
    frames, height, width = shape
    given = guidance(model, dtype=dtype, **case)
    layout = ranks.layout(4, frames * height * width // 4, guided=given.negative is not None)
    latents = random(1, 8, *shape, seed=1).to(dtype), random(1, AUDIO_LENGTH, 20, seed=2).to(dtype)
    return guided_velocity(model, *latents, torch.tensor([500.0]), given, clean_first_frame=clean, layout=layout)


def of_one_process(ranks: Ranks, compute: Callable[[], Velocities]) -> Velocities:
    """Return what one process computes, on every rank; only the leader does, since the ranks share few cores here."""
    return ranks.broadcast(compute() if ranks.is_leader else None)


def difference(ranks: Ranks, one: Velocities, other: Velocities) -> float:
    """Return the largest difference on any rank; infinite if two ranks differ from each other at all."""
    own = max((a - b).abs().max().item() for a, b in zip(one, other, strict=True))
    sums = ranks.all_gather([x.double().sum().item() for x in one])
    return max(ranks.all_gather(own)) if all(found == sums[0] for found in sums) else float("inf")


def cases() -> Iterator[tuple[str, dict[str, Any]]]:
    for guided, skip in ((True, 1), (True, None), (False, None)):
        for clean in (False, True):
            name = f"{'guided' if guided else 'one pass'}{', skip' if skip else ''}{', first frame' if clean else ''}"
            yield name, {"guided": guided, "skip": skip, "clean": clean}


def few_cases() -> Iterator[tuple[str, dict[str, Any]]]:
    """One for each layout of tokens, where the weights are what differs."""
    for name, case in cases():
        if name in {"guided, skip", "one pass, first frame"}:
            yield name, case


def cases_with(tokens: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """All with tokens that no number of ranks divides evenly; others differ from them in their layout alone."""
    return cases() if tokens == "45 tokens" else few_cases()


def shard(sharding: Sharding, weights: Weights = Weights.BF16, dtype: torch.dtype = torch.float32) -> OviTransformer:
    """Load the reference model, of which every rank reads its shards."""
    if not sharding.shards:
        return build_model()
    with torch.device("meta"):
        model = OviTransformer(**json.loads((REFERENCE / "fusion.config.json").read_text()))
        prepare(model, weights)
    shard_transformer(as_loaded(model, dtype), sharding)
    stored = load_file(REFERENCE / "fusion.weights.safetensors").items()
    fill(model, stored, transformer_format(weights, dtype), torch.device("cpu"), offloaded=sharding.offloaded)
    return model


@cache
def full_shard(resident: int) -> OviTransformer:
    """The model in shards, for cases that leave it as it is."""
    return shard(Sharding(Strategy.FULL_SHARD, resident_blocks=resident))


@torch.no_grad()
def layouts(ranks: Ranks) -> dict[str, float]:
    alone = Ranks()
    plain = build_model()
    strategies = {
        "FULL_SHARD": partial(full_shard, 0),
        "FULL_SHARD, 1 resident": partial(full_shard, 1),
        "FULL_SHARD, offloaded": partial(shard, Sharding(Strategy.FULL_SHARD, offloaded=True)),
        "SHARD_GRAD_OP": partial(shard, Sharding(Strategy.SHARD_GRAD_OP)),
        "NO_SHARD": partial(shard, Sharding(Strategy.NO_SHARD)),
    }
    if ranks.count == 4:
        strategies["HYBRID_SHARD"] = partial(shard, Sharding(Strategy.HYBRID_SHARD, resident_blocks=1))
    expected = {
        (tokens, name): of_one_process(ranks, partial(step, plain, shape, alone, **case))
        for tokens, shape in SHAPES.items()
        for name, case in cases_with(tokens)
    }
    found = {}
    for strategy, build in strategies.items():
        model = build()
        every_layout = strategy == "FULL_SHARD"
        for tokens, shape in SHAPES.items() if every_layout else [("45 tokens", SHAPES["45 tokens"])]:
            for name, case in cases_with(tokens) if every_layout else few_cases():
                result = step(model, shape, ranks, **case)
                found[f"{strategy}, {tokens}, {name}"] = difference(ranks, result, expected[tokens, name])
    return found


def build_int8(dtype: torch.dtype) -> OviTransformer:
    with torch.device("meta"):
        model = OviTransformer(**json.loads((REFERENCE / "fusion.config.json").read_text()))
        prepare(model, Weights.INT8)
    tensors = {}
    for name, tensor in load_file(REFERENCE / "fusion.weights.safetensors").items():
        tensors |= convert(name, tensor, Weights.INT8, dtype)
    return assign(model, tensors)


@torch.no_grad()
def int8(ranks: Ranks) -> dict[str, dict[str, float]]:
    """Weights in 8 bits, sharded, without adapters, with one beside them and one in them, for each number format of the
    activations."""
    return {str(dtype).removeprefix("torch."): int8_in(ranks, dtype) for dtype in (torch.float64, torch.float32)}


@contextmanager
def as_strict_as_torch_2_11() -> Iterator[None]:
    """Behave like torch 2.11, where FSDP first creates shards that require a gradient, which integers cannot."""

    def parameter(data: Tensor, requires_grad: bool = True) -> torch.nn.Parameter:
        return torch.nn.Parameter(data).requires_grad_(requires_grad)

    original = _fsdp_param.nn
    _fsdp_param.nn = SimpleNamespace(**{**vars(torch.nn), "Parameter": parameter})
    try:
        yield
    finally:
        _fsdp_param.nn = original


def int8_in(ranks: Ranks, dtype: torch.dtype) -> dict[str, float]:
    with as_strict_as_torch_2_11():
        model = shard(Sharding(Strategy.FULL_SHARD, resident_blocks=1), Weights.INT8, dtype)
    plain = build_int8(dtype) if ranks.is_leader else None
    stored = load_file(REFERENCE / "fusion.weights.safetensors")
    managers = [
        AdapterManager(one, reference_file, pristine=stored, shapes=official_shapes(one))
        for one in (plain, model)
        if one is not None
    ]
    found = {}
    for kind, stack in {"none": [], "beside": [use(LORA, "1;0.5")], "quantised anew": [use(DORA)]}.items():
        for manager in managers:
            manager.prepare(tuple(stack), 2)
        for name, case in few_cases():
            compute = partial(step, shape=SHAPES["45 tokens"], dtype=dtype, **case)
            expected = of_one_process(ranks, partial(compute, plain, ranks=Ranks()))
            found[f"adapters {kind}, {name}"] = difference(ranks, compute(model, ranks=ranks), expected)
    return found


@torch.no_grad()
def compiled(ranks: Ranks) -> dict[str, float]:
    """Blocks as graphs around the exchanges of sharded tokens; which code is made of a graph does not matter here.

    Only the leader of two ranks has graphs, since to trace them takes longer than everything else here together. The
    velocities are its audio and its half of the video; the exchanges must be those of the other rank, which has none.
    """
    if ranks.count > 2:
        return {}
    model = shard(Sharding(Strategy.FULL_SHARD, resident_blocks=1))
    if ranks.is_leader:
        with mock.patch("torch.compile", partial(torch.compile, backend="eager")):
            model.compile_blocks()
    compute = partial(step, shape=SHAPES["45 tokens"], guided=False, skip=None, clean=False)
    expected = of_one_process(ranks, lambda: compute(build_model(), ranks=Ranks()))
    # With symbols for sizes, to look up what an operation returns takes longer than to find it out again.
    with mock.patch.object(torch._dynamo.config, "fake_tensor_cache_enabled", False):
        return {"one pass": difference(ranks, compute(model, ranks=ranks), expected)}


@torch.no_grad()
def adapters(ranks: Ranks) -> dict[str, float]:
    """Several stacks in turn on a sharded model, compared with one process."""
    plain, model = build_model() if ranks.is_leader else None, shard(Sharding(Strategy.FULL_SHARD, resident_blocks=1))
    managers = [AdapterManager(one, reference_file) for one in (plain, model) if one is not None]
    found = {}
    for name, (stack, steps) in STACKS.items():
        for manager in managers:
            manager.prepare(tuple(stack), steps)
        for index in range(steps):
            for manager in managers:
                manager.set_step(index)
            compute = partial(step, shape=SHAPES["45 tokens"], guided=True, skip=1, clean=False)
            expected = of_one_process(ranks, partial(compute, plain, ranks=Ranks()))
            found[f"{name}, step {index}"] = difference(ranks, compute(model, ranks=ranks), expected)
    return found


@torch.no_grad()
def traffic(ranks: Ranks) -> dict[str, Any]:
    """Return what is communicated in a step, after a warm-up step."""
    found = {}
    for resident in (0, 1):
        model = full_shard(resident)
        for guided in (True, False):
            shape = SHAPES["45 tokens"]
            case = {"guided": guided, "skip": None}
            given, layout = guidance(model, **case), ranks.layout(4, 45, guided=guided)
            latents = random(1, 8, *shape, seed=1), random(1, AUDIO_LENGTH, 20, seed=2)
            inputs = (model, *latents, torch.tensor([500.0]), given)
            guided_velocity(*inputs, clean_first_frame=False, layout=layout)
            with counted_traffic() as counted:
                guided_velocity(*inputs, clean_first_frame=False, layout=layout)
            found[f"{resident} resident, {'guided' if guided else 'one pass'}"] = counted.bytes | {
                f"calls {name}": calls for name, calls in counted.calls.items()
            }
    return found


@torch.no_grad()
def memory(ranks: Ranks) -> dict[str, list[int]]:
    """Return how many parameters a rank holds between two steps: its shards, and what stays gathered."""
    found = {}
    for resident in (0, 1, 3):
        model = shard(Sharding(Strategy.FULL_SHARD, resident_blocks=resident))
        shares = sum(local_part(parameter).numel() for parameter in model.parameters())
        step(model, SHAPES["24 tokens"], ranks, guided=True, skip=None, clean=False)
        gathered = [
            sum(parameter.numel() for parameter in block.parameters() if type(parameter) is torch.nn.Parameter)
            for block in model.fusion_blocks
        ]
        reshard(model)
        after = sum(local_part(parameter).numel() for parameter in model.parameters())
        found[str(resident)] = [shares, sum(gathered), sum(size > 0 for size in gathered), after]
    return found


def main() -> None:
    ranks = join_ranks()
    answer = {part.__name__: part(ranks) for part in (layouts, int8, compiled, adapters, traffic, memory)}
    sizes = ranks.all_gather(answer["memory"])
    if ranks.is_leader:
        answer["memory"] = sizes
        Path(sys.argv[1]).write_text(json.dumps(answer))
    ranks.close()


if __name__ == "__main__":
    main()
