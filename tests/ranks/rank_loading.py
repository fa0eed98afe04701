"""Run on several ranks: what each has after loading, compared with one process; and refusals on all ranks.

Arguments: the JSON file to write, the bundle, a folder for changed files.
"""

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from rank_helpers import counted_traffic
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor, Shard

from ovi_studio.capacity.layouts import ShardingOptions, Strategy
from ovi_studio.checkpoints.layout import Inventory, require
from ovi_studio.checkpoints.load import Models, load_models
from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import Part
from ovi_studio.core.weight_formats import Weights
from ovi_studio.distributed.ranks import Ranks, join_ranks
from ovi_studio.distributed.sharding import Sharding, load_shared, resolve_sharding
from ovi_studio.distributed.shards import local_part
from ovi_studio.models import quantized_linear

CPU = torch.device("cpu")


def requests(ranks: Ranks) -> dict[str, ShardingOptions]:
    found = {
        "FULL_SHARD": ShardingOptions(Strategy.FULL_SHARD),
        "FULL_SHARD, offloaded": ShardingOptions(Strategy.FULL_SHARD, offloaded=True),
        "NO_SHARD": ShardingOptions(Strategy.NO_SHARD),
    }
    return found | ({"HYBRID_SHARD": ShardingOptions(Strategy.HYBRID_SHARD)} if ranks.count == 4 else {})


@contextmanager
def counted_rows() -> Iterator[list[int]]:
    """Count the rows that this rank quantises."""
    rows: list[int] = []
    original = quantized_linear.quantise_rows

    def counting(x: torch.Tensor, dtype: torch.dtype = torch.int8) -> quantized_linear.QuantisedRows:
        if not x.is_meta:
            rows.append(len(x))
        return original(x, dtype)

    quantized_linear.quantise_rows = counting
    try:
        yield rows
    finally:
        quantized_linear.quantise_rows = original


def loading(ranks: Ranks, inventory: Inventory, formats: Sequence[Weights]) -> dict[str, Any]:
    found = {}
    for weights in formats:
        # What one process has is loaded by the leader alone, since the ranks share few cores here.
        plain = load_models(inventory, CPU, torch.float32, weights=weights) if ranks.is_leader else None
        for name, wish in requests(ranks).items():
            with counted_traffic() as traffic, counted_rows() as rows:
                models = load_shared(
                    inventory, CPU, torch.float32, resolve_sharding(wish, inventory.variant, ranks), ranks, weights
                )
            found[f"{name}, {weights}"] = {
                "different": different(ranks, models, plain),
                "sent": sum(traffic.bytes.values()),
                "quantised": ranks.all_gather(sum(rows)),
                "parameters": ranks.all_gather(held(models)),
                "all parameters": held(plain) if plain else 0,
                "empty": ranks.all_gather(sum(local_part(p).numel() == 0 for p in models.transformer.parameters())),
                "tied": models.text_encoder.encoder.embed_tokens.weight is models.text_encoder.shared.weight,
            }
    rows_of_all = [len(p) for p in plain.transformer.parameters() if p.dtype == torch.int8] if plain else []
    return found | {"rows": sum(rows_of_all)}


def different(ranks: Ranks, models: Models, plain: Models | None) -> list[str]:
    """Return, on the leader, the names of parameters that are not exactly those of one process.

    One message of a rank has all of its parts; to gather each weight on its own takes longer than to load it.
    """
    names = []
    for part in ("transformer", "text_encoder"):
        own = dict(getattr(models, part).named_parameters())
        of_all = ranks.gather({name: local_part(parameter).detach() for name, parameter in own.items()})
        if plain is not None:
            expected = dict(getattr(plain, part).named_parameters())
            assert all(parts.keys() == expected.keys() for parts in of_all)
            for name, parameter in own.items():
                found = copies(parameter, [parts[name] for parts in of_all])
                if not all(same(copy, expected[name]) for copy in found):
                    names.append(name)
    return names


def copies(parameter: torch.Tensor, parts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Put a weight together, as often as there is one, from the parts of all ranks."""
    if not isinstance(parameter, DTensor):
        return list(parts)
    assert parameter.placements[-1] == Shard(0)
    ranks = parameter.device_mesh.size(-1)
    return [torch.cat(parts[first : first + ranks]) for first in range(0, len(parts), ranks)]


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


def held(models: Models) -> int:
    parameters = [*models.transformer.parameters(), *models.text_encoder.parameters()]
    return sum(local_part(parameter).numel() for parameter in parameters)


def with_official_text_encoder(inventory: Inventory, folder: Path) -> Inventory:
    """Replace the text encoder by a .pth file that has the embedding once, like the official one."""
    tensors = load_file(inventory.files[Part.TEXT_ENCODER][0])
    tensors.pop("encoder.embed_tokens.weight", None)
    tensors["token_embedding.weight"] = tensors.pop("shared.weight")
    path = folder / f"text_encoder_{dist.get_rank()}.pth"
    torch.save(tensors, path)
    return with_file(inventory, Part.TEXT_ENCODER, path)


def with_file(inventory: Inventory, part: Part, path: Path) -> Inventory:
    return dataclasses.replace(inventory, files={**inventory.files, part: (path,)})


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def changed(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)

    return apply


def one_row_less(tensors: dict[str, torch.Tensor]) -> None:
    name = min(name for name, tensor in tensors.items() if tensor.dim() == 2)
    tensors[name] = tensors[name][1:].clone()


def one_tensor_less(tensors: dict[str, torch.Tensor]) -> None:
    del tensors[min(tensors)]


def refusals(ranks: Ranks, inventory: Inventory, folder: Path) -> list[tuple[str, list[str], str]]:
    """Return name, messages of all ranks, and message of one process; only the last rank has the bad file."""
    found = []
    problems = {"damaged": damaged, "shape": changed(one_row_less), "missing": changed(one_tensor_less)}
    for part in (Part.TRANSFORMER, Part.TEXT_ENCODER):
        for name, spoil in problems.items():
            path = folder / f"{part} {name}.safetensors"
            if ranks.is_leader:
                path.write_bytes(inventory.files[part][0].read_bytes())
                spoil(path)
            ranks.all_gather(None)
            bad = with_file(inventory, part, path)
            own = bad if ranks.index == ranks.count - 1 else inventory
            found.append((f"{part} {name}", *said(ranks, own, bad, Weights.INT8)))
    found.append(("no fp8", *said(ranks, inventory, inventory, Weights.FP8)))
    return found


def said(ranks: Ranks, own: Inventory, alone: Inventory, weights: Weights) -> tuple[list[str], str]:
    shared = refusal(lambda: load_shared(own, CPU, torch.float32, Sharding(Strategy.FULL_SHARD), ranks, weights))
    one = refusal(lambda: load_models(alone, CPU, torch.float32, weights=weights)) if ranks.is_leader else ""
    return ranks.all_gather(shared), one


def refusal(load: Callable[[], object]) -> str:
    try:
        load()
    except JobError as error:
        return str(error)
    return ""


@contextmanager
def patience() -> Iterator[list[Any]]:
    """Collect the timeouts in seconds of the groups that this program creates; None for torch's default."""
    seconds: list[Any] = []
    original = dist.new_group

    def noting(*given: Any, timeout: Any = None, **options: Any) -> Any:
        seconds.append(timeout and timeout.total_seconds())
        return original(*given, timeout=timeout, **options)

    dist.new_group = noting
    try:
        yield seconds
    finally:
        dist.new_group = original


def main() -> None:
    with patience() as seconds:
        ranks = join_ranks()
        ranks.layout(ranks.count, 45, guided=False)
    bundle, folder = map(Path, sys.argv[2:4])
    inventory = require("tiny", bundle)
    answer = {
        "patience": seconds,
        "loading": loading(ranks, inventory, (Weights.BF16, Weights.INT8)),
        "official": loading(ranks, with_official_text_encoder(inventory, folder), (Weights.BF16,)),
        # A message reaches three ranks as it does four.
        "refusals": refusals(ranks, inventory, folder) if ranks.count == 3 else [],
    }
    if ranks.is_leader:
        Path(sys.argv[1]).write_text(json.dumps(answer))
    ranks.close()


if __name__ == "__main__":
    main()
