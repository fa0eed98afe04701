"""The cost of adapters: the time to fuse and unfuse them, and the slowdown of a forward pass by unfused adapters.

`python -m ovi_studio.bench.adapters` measures random adapters of every linear layer, on a model of the published width
and a small depth; the cost is proportional to depth. Speed does not depend on the values.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ovi_studio.adapters.formats.lora import LowRank
from ovi_studio.adapters.fuse import WeightFuser
from ovi_studio.adapters.names import is_linear
from ovi_studio.adapters.runtime import RuntimeAdapters, RuntimeLora
from ovi_studio.core.variants import published_variants
from ovi_studio.models.device import compute_device
from ovi_studio.models.transformer import OviTransformer
from ovi_studio.runtime.compute import Compute

RANKS = (16, 64, 128)
VIDEO_SHAPE = (2, 16, 16)
"""Latent frames, height, width: 128 tokens."""
AUDIO_LENGTH = 64


@dataclass(frozen=True)
class FuseTimes:
    """The cost of fusing one adapter into a model and of removing it."""

    model_bytes: int
    touched_bytes: int
    """Bytes of the weights that were changed."""
    fuse: float
    """Seconds."""
    unfuse: float
    """Seconds."""


@torch.no_grad()
def measure_fusing(model: OviTransformer, rank: int) -> FuseTimes:
    """Measure one adapter of every linear layer, without a warm-up, because users wait for the first time."""
    parameters = dict(model.named_parameters())
    fuser = WeightFuser(parameters)
    changes = {f"{layer}.weight": [(change, 1.0)] for layer, change in random_changes(model, rank)}
    device = next(iter(parameters.values())).device
    fuse = _seconds(lambda: fuser.write(changes), device)
    touched = sum(parameters[name].nbytes for name in fuser.touched)
    unfuse = _seconds(lambda: fuser.restore(parameters), device)
    return FuseTimes(sum(parameter.nbytes for parameter in parameters.values()), touched, fuse, unfuse)


@torch.no_grad()
def measure_forward(model: OviTransformer, adapters: Sequence[int], repeats: int) -> tuple[float, float]:
    """Return the median seconds of a forward pass, without and with unfused adapters of these ranks on every layer.

    The two are timed alternately, so that other load on the machine affects both alike.
    """
    runtime = RuntimeAdapters(model)
    additions: dict[str, list[RuntimeLora]] = {}
    for rank in adapters:
        for layer, change in random_changes(model, rank):
            additions.setdefault(layer, []).append(RuntimeLora(change, (1.0,)))
    inputs = _inputs(model)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats + 1):
        for adapted, seconds in zip((False, True), times, strict=True):
            runtime.remove()
            if adapted:
                runtime.inject(additions, model.dtype)
            seconds.append(_seconds(lambda: model(*inputs), model.device))
    runtime.remove()
    plain, slowed = (statistics.median(seconds[1:]) for seconds in times)
    return plain, slowed


def random_changes(model: nn.Module, rank: int) -> Iterator[tuple[str, LowRank]]:
    """Yield a random low-rank update of every linear layer, in the layer's number format."""
    for name, parameter in model.named_parameters():
        if is_linear(name, tuple(parameter.shape)):
            rows, columns = parameter.shape
            down, up = torch.randn(rank, columns), torch.randn(rows, rank)
            yield name.removesuffix(".weight"), LowRank(down.to(parameter), up.to(parameter).mul_(1e-3), 1.0)


def build_model(depth: int, compute: Compute) -> OviTransformer:
    """Build the published model with `depth` blocks and arbitrary weights."""
    sizes = json.loads(json.dumps(published_variants()["960x960_5s"].dimensions["fusion"]))
    for tower in sizes.values():
        tower["num_layers"] = depth
    with torch.device("meta"):
        model = OviTransformer(**sizes)
    nn.Module.to(model, compute.dtype)
    model.to_empty(device=compute.device)
    for parameter in model.parameters():
        parameter.data.fill_(0.01)
    return model.eval().requires_grad_(False)


def _inputs(model: OviTransformer) -> tuple[object, ...]:
    def noise(*size: int) -> Tensor:
        return torch.randn(1, *size).to(model.device, model.dtype)

    embedding = model.video_model.get_parameter("text_embedding.0.weight")
    text = noise(64, embedding.shape[1])
    channels = (model.config["video"]["in_dim"], model.config["audio"]["in_dim"])
    timestep = torch.full((1,), 500.0, device=model.device)
    video, audio = noise(channels[0], *VIDEO_SHAPE), noise(AUDIO_LENGTH, channels[1])
    return video, audio, timestep, model.prepare_text(text, text)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=1, help="blocks of each tower (one takes 2.1 GB in bfloat16)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    options = parser.parse_args()
    device = compute_device()
    compute = Compute(device, getattr(torch, options.dtype))
    model = build_model(options.depth, compute)
    print(f"{device}, {options.dtype}, {torch.get_num_threads()} threads, {options.depth} blocks per tower")
    for rank in RANKS:
        times = measure_fusing(model, rank)
        print(
            f"rank {rank}: fuse {times.fuse:.2f} s, unfuse {times.unfuse:.2f} s; {times.touched_bytes / 1e9:.2f} of "
            f"{times.model_bytes / 1e9:.2f} GB changed"
        )
    for ranks in (*((rank,) for rank in RANKS), (64, 64, 64)):
        plain, slowed = measure_forward(model, ranks, options.repeats)
        print(f"unfused, ranks {ranks}: {plain:.2f} s without, {slowed:.2f} s with, {slowed / plain - 1:+.1%}")


if __name__ == "__main__":
    main()
