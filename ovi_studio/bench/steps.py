"""Measurements that anyone can repeat: one forward pass of the transformer in a named shape, and one whole clip.

Weights are random, since speed does not depend on them, so full-size shapes need no checkpoints. The numbers of
floating-point operations are counted by PyTorch on the model itself. A smaller card is stood for by a limit of the
allocator; what a real one lacks beside memory is not.
"""

import math
import statistics
import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ovi_studio.capacity.arithmetic import TowerSizes
from ovi_studio.capacity.memory import Demand
from ovi_studio.capacity.tiers import AUTO, find_tier, fitting_tier, plan_memory
from ovi_studio.checkpoints.number_formats import prepare
from ovi_studio.core.variants import EMBEDDED_BUNDLE, published_variants, read_bundle
from ovi_studio.core.weight_formats import Weights
from ovi_studio.models.attention import choose_backend
from ovi_studio.models.compilation import choose_compilation
from ovi_studio.models.transformer import OviTransformer, Pass
from ovi_studio.runtime.pipeline import Compute
from ovi_studio.runtime.streaming import HostedModel

_SMALL_TOWER = {"dim": 512, "ffn_dim": 2048, "freq_dim": 256, "num_heads": 4, "num_layers": 4, "text_len": 512}
_SMALL = {
    "video": {**_SMALL_TOWER, "text_dim": 512, "patch_size": [1, 2, 2], "in_dim": 48, "out_dim": 48},
    "audio": {**_SMALL_TOWER, "text_dim": 512, "patch_size": [1], "in_dim": 20, "out_dim": 20},
}


@dataclass(frozen=True)
class BenchShape:
    """Dimensions of the towers and sizes of the latents."""

    fusion: Mapping[str, Any]
    video: tuple[int, int, int]
    """Latent frames, height, width."""
    audio: int

    def demand(self, guided: bool) -> Demand:
        """For the memory plan; the transformer alone."""
        frames, height, width = self.video
        tokens = frames * height * width // math.prod(self.fusion["video"]["patch_size"])
        sizes = TowerSizes.of({"fusion": self.fusion})
        return Demand(sizes, tokens, self.audio, (height, width), guided=guided)


def shapes() -> dict[str, BenchShape]:
    """Name -> shape. `small` is the one that is compared with the official code on a CPU."""
    full = published_variants()["960x960_5s"].dimensions["fusion"]
    return {
        "small": BenchShape(_SMALL, (16, 24, 24), 157),
        "demo": BenchShape(read_bundle(EMBEDDED_BUNDLE).dimensions["fusion"], (19, 6, 6), 95),
        "704x704_5s": BenchShape(full, (31, 44, 44), 157),
        "960x960_5s": BenchShape(full, (31, 60, 60), 157),
        "960x960_10s": BenchShape(full, (61, 60, 60), 314),
    }


@dataclass(frozen=True)
class Setup:
    """What of the weights is where while a pass is measured."""

    weights: Weights = Weights.BF16
    resident: int | None = None
    """Blocks that stay on the device, the others are streamed from host memory; None: all, and nothing is hosted."""
    limit: float | None = None
    """Bytes of GPU memory that this process may have, to stand for a smaller card."""

    @classmethod
    def of(cls, shape: BenchShape, compute: Compute, *, guided: bool, limit: float | None = None) -> "Setup":
        """As the memory tier has it: that of the limit if there is one, else the one that was asked for, if one was."""
        tier = find_tier(compute.options.memory) if compute.options.memory != AUTO else None
        if tier is None and limit is not None:
            tier = fitting_tier(limit)
        asked = None if compute.options.weights == AUTO else Weights(compute.options.weights)
        if tier is None:
            return cls(asked or Weights.BF16)
        plan = plan_memory(tier, shape.demand(guided), asked)
        return cls(plan.weights, plan.resident if tier.offloaded else None, limit)


@dataclass(frozen=True)
class ForwardMeasurement:
    """Seconds of each run after a first one that does not count, operations of one run, and peak memory."""

    seconds: tuple[float, ...]
    flops: int
    peak_bytes: int
    setup: Setup
    blocks: int
    rate: float
    """Operations a second that the device attains in a large matrix product of the weights' format."""

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        attained = self.flops / self.median
        resident = self.blocks if self.setup.resident is None else self.setup.resident
        return (
            f"{self.setup.weights} weights, {self.blocks - resident} of {self.blocks} blocks streamed: "
            f"{self.median:.3f} s (median of {len(self.seconds)}, fastest {min(self.seconds):.3f} s), "
            f"{attained / 1e12:.3f} TFLOP/s, {attained / self.rate:.0%} of a matrix product's {self.rate / 1e12:.3f}, "
            f"peak memory {self.peak_bytes / 2**30:.2f} GiB"
        )


@torch.no_grad()
def measure_forward(
    shape: BenchShape, compute: Compute, repeats: int, *, guided: bool = False, setup: Setup | None = None
) -> ForwardMeasurement:
    """Time forward passes; `guided` adds the negative pass with one block left out, as in a step with guidance."""
    setup = setup or Setup.of(shape, compute, guided=guided)
    with torch.device("meta"):
        model = OviTransformer(**shape.fusion)
        flops = _count(model, _inputs(model, shape, torch.device("meta"), torch.float32), guided)
    device = compute.device
    rate = matrix_rate(device, torch.int8 if setup.weights is Weights.INT8 else compute.dtype)
    _limit(device, setup.limit)
    model = _built(shape, compute, setup)
    hosted = nullcontext()
    if setup.resident is not None:
        hosted = HostedModel(model, device, model.fusion_blocks, setup.resident).in_use()
    seconds = []
    with hosted:
        inputs = _inputs(model, shape, device, compute.dtype)
        _run(model, inputs, guided)
        for _ in range(repeats):
            _synchronise(device)
            start = time.perf_counter()
            _run(model, inputs, guided)
            _synchronise(device)
            seconds.append(time.perf_counter() - start)
    return ForwardMeasurement(tuple(seconds), flops, peak_memory(device), setup, len(model.fusion_blocks), rate)


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of one large matrix product, the fastest of ten."""
    side = 8192 if device.type == "cuda" else 1024
    if dtype == torch.int8:
        one = torch.randint(-127, 128, (side, side), dtype=dtype, device=device)
        multiply = torch._int_mm
    else:
        one, multiply = torch.randn(side, side, dtype=dtype, device=device), torch.mm
    other = one.T.contiguous().T
    fastest = float("inf")
    for _ in range(10):
        _synchronise(device)
        start = time.perf_counter()
        multiply(one, other)
        _synchronise(device)
        fastest = min(fastest, time.perf_counter() - start)
    return 2 * side**3 / fastest


def _limit(device: torch.device, limit: float | None) -> None:
    if device.type != "cuda":
        return
    if limit is not None:
        total = torch.cuda.mem_get_info(device)[1]
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total), device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)


def _built(shape: BenchShape, compute: Compute, setup: Setup) -> OviTransformer:
    """A model with random weights, at home where the setup has it."""
    with torch.device("meta"):
        model = OviTransformer(**shape.fusion)
        prepare(model, setup.weights)
    for name, parameter in model.named_parameters():
        if parameter.dtype == torch.float32 and not name.endswith("weight_scale"):
            parameter.data = parameter.data.to(compute.dtype)
    home = compute.device if setup.resident is None else torch.device("cpu")
    model = _randomised(model.to_empty(device=home)).eval()
    model.set_attention(choose_backend(compute.options.attention, compute.device))
    if choose_compilation(compute.options.compilation, compute.device, measured=False):
        model.compile_blocks()
    return model


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that this process has had allocated on a GPU, or resident on the host."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return psutil.Process().memory_info().peak_wset
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _inputs(model: OviTransformer, shape: BenchShape, device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    video, audio = shape.fusion["video"], shape.fusion["audio"]

    def noise(*size: int) -> Tensor:
        return torch.randn(1, *size, device=device, dtype=dtype)

    context = noise(video["text_len"] // 2, video.get("text_dim", 4096))
    return (
        noise(video["in_dim"], *shape.video),
        noise(shape.audio, audio["in_dim"]),
        torch.full((1,), 500.0, device=device),
        model.prepare_text(context, context),
    )


def _run(model: OviTransformer, inputs: tuple[Any, ...], guided: bool) -> None:
    *latents, text = inputs
    passes = [Pass(text), Pass(text, skip_block=len(model.fusion_blocks) // 3)]
    model.velocities(*latents, passes if guided else passes[:1])


def _count(model: OviTransformer, inputs: tuple[Any, ...], guided: bool) -> int:
    with FlopCounterMode(display=False) as counter:
        _run(model, inputs, guided)
    return counter.get_total_flops()


def _randomised(model: nn.Module) -> Any:
    for name, parameter in model.named_parameters():
        if parameter.dtype == torch.int8:
            parameter.random_(-127, 128)
        elif parameter.dtype == torch.float8_e4m3fn:
            parameter.copy_(torch.randn(parameter.shape, device=parameter.device) * 0.02)
        elif name.endswith("weight_scale"):
            parameter.fill_(0.02 / 64)
        elif name.endswith("weight") and parameter.dim() == 1:
            parameter.fill_(1.0)  # norms
        else:
            parameter.normal_(std=0.02)
    return model


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
