"""Reproducible measurements of the transformer's forward pass in a named shape.

Weights are random, because speed does not depend on them, so full-size shapes need no checkpoints. PyTorch counts the
floating-point operations on the model itself. A smaller card is simulated by limiting the allocator, which reproduces
its memory but not its speed.
"""

import math
import statistics
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

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
from ovi_studio.models.precision import check_weights
from ovi_studio.models.transformer import OviTransformer, Pass, TextContext
from ovi_studio.runtime.attention_choice import choose_attention
from ovi_studio.runtime.compute import Compute
from ovi_studio.runtime.streaming import HostedModel

_SMALL_TOWER = {"dim": 512, "ffn_dim": 2048, "freq_dim": 256, "num_heads": 4, "num_layers": 4, "text_len": 512}
_SMALL = {
    "video": {**_SMALL_TOWER, "text_dim": 512, "patch_size": [1, 2, 2], "in_dim": 48, "out_dim": 48},
    "audio": {**_SMALL_TOWER, "text_dim": 512, "patch_size": [1], "in_dim": 20, "out_dim": 20},
}
_MULTIPLIED = {Weights.INT8: torch.int8, Weights.FP8_FAST: torch.float8_e4m3fn}
"""Number format of the products, for weights that are not converted to the model's own."""


@dataclass(frozen=True)
class BenchShape:
    """Dimensions of the transformer and sizes of the latents."""

    fusion: Mapping[str, Any]
    """Dimensions of both towers."""
    video: tuple[int, int, int]
    """Latent frames, height, width."""
    audio: int
    """Latent length."""
    video_vae: Mapping[str, Any] | None = None
    """Dimensions of the video VAE; None: the shape is that of no clip."""

    def demand(self, guided: bool) -> Demand:
        """Return the memory demand of the transformer alone."""
        frames, height, width = self.video
        tokens = frames * height * width // math.prod(self.fusion["video"]["patch_size"])
        sizes = TowerSizes.of({"fusion": self.fusion})
        return Demand(sizes, tokens, self.audio, (height, width), guided=guided)


def shapes() -> dict[str, BenchShape]:
    """Return the shapes by name; `small` is the one compared with the official code on a CPU."""
    full = published_variants()["960x960_5s"].dimensions
    demo = read_bundle(EMBEDDED_BUNDLE).dimensions
    return {
        "small": BenchShape(_SMALL, (16, 24, 24), 157),
        "demo": BenchShape(demo["fusion"], (19, 6, 6), 95, demo["video_vae"]),
        "704x704_5s": BenchShape(full["fusion"], (31, 44, 44), 157, full["video_vae"]),
        "960x960_5s": BenchShape(full["fusion"], (31, 60, 60), 157, full["video_vae"]),
        "960x960_10s": BenchShape(full["fusion"], (61, 60, 60), 314, full["video_vae"]),
    }


@dataclass(frozen=True)
class Setup:
    """Number format and placement of the weights while a pass is measured."""

    weights: Weights = Weights.BF16
    resident: int | None = None
    """Blocks that stay on the device while the others are streamed from host memory; None keeps all of them there."""
    limit: float | None = None
    """GPU memory limit of this process in bytes, to simulate a smaller card."""

    @classmethod
    def of(cls, shape: BenchShape, compute: Compute, *, guided: bool, limit: float | None = None) -> "Setup":
        """Return the setup of the requested memory tier, or else of the tier that fits the limit."""
        tier = find_tier(compute.options.memory) if compute.options.memory != AUTO else None
        if tier is None and limit is not None:
            tier = fitting_tier(limit)
        requested = None if compute.options.weights == AUTO else Weights(compute.options.weights)
        check_weights(requested or Weights.BF16, compute.device)
        if tier is None:
            return cls(requested or Weights.BF16)
        plan = plan_memory(tier, shape.demand(guided), requested)
        return cls(plan.weights, plan.resident if tier.offloaded else None, limit)


@dataclass(frozen=True)
class ForwardMeasurement:
    """The measurement of a forward pass."""

    seconds: tuple[float, ...]
    """Seconds of each run after a warm-up run."""
    flops: int
    """Floating-point operations of one run."""
    peak_bytes: int
    """Peak memory."""
    setup: Setup
    blocks: int
    """Blocks of the model."""
    rate: float
    """Operations per second of a large matrix product in the format of the weights."""

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
    """Time forward passes; `guided` adds the negative pass with one skipped block, as in a step with guidance."""
    setup = setup or Setup.of(shape, compute, guided=guided)
    with torch.device("meta"):
        model = OviTransformer(**shape.fusion)
        flops = _count_flops(model, random_inputs(model, shape, torch.device("meta"), torch.float32), guided)
    device = compute.device
    rate = matrix_rate(device, _MULTIPLIED.get(setup.weights, compute.dtype))
    _limit_memory(device, setup.limit)
    model = _build(shape, compute, setup)
    in_use: AbstractContextManager[None] = nullcontext()
    if setup.resident is not None:
        in_use = HostedModel(model, device, model.fusion_blocks, setup.resident).in_use()
    seconds = []
    with in_use:
        inputs = random_inputs(model, shape, device, compute.dtype)
        run_step(model, inputs, guided)
        for _ in range(repeats):
            _synchronise(device)
            start = time.perf_counter()
            run_step(model, inputs, guided)
            _synchronise(device)
            seconds.append(time.perf_counter() - start)
    return ForwardMeasurement(tuple(seconds), flops, peak_memory(device), setup, len(model.fusion_blocks), rate)


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Return the operations per second of a large matrix product, the fastest of ten."""
    side = 8192 if device.type == "cuda" else 1024
    if dtype == torch.int8:
        one = torch.randint(-127, 128, (side, side), dtype=dtype, device=device)
        multiply = torch._int_mm
    elif dtype == torch.float8_e4m3fn:
        one = torch.randn(side, side, device=device).to(dtype)
        unit = torch.ones((), device=device)
        multiply = partial(torch._scaled_mm, scale_a=unit, scale_b=unit, out_dtype=torch.bfloat16, use_fast_accum=True)
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


def _limit_memory(device: torch.device, limit: float | None) -> None:
    if device.type != "cuda":
        return
    if limit is not None:
        total = torch.cuda.mem_get_info(device)[1]
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total), device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)


def _build(shape: BenchShape, compute: Compute, setup: Setup) -> OviTransformer:
    """Build a model with random weights, on the device or, if blocks are streamed, in host memory."""
    with torch.device("meta"):
        model = OviTransformer(**shape.fusion)
        prepare(model, setup.weights)
    for name, parameter in model.named_parameters():
        if parameter.dtype == torch.float32 and not name.endswith("weight_scale"):
            parameter.data = parameter.data.to(compute.dtype)
    model.to_empty(device=compute.device if setup.resident is None else torch.device("cpu"))
    _randomise(model)
    model.eval()
    tokens = shape.demand(guided=False).video_tokens
    attention = choose_attention(compute.options.attention, tokens, compute.device, compute.dtype)
    model.set_attention(choose_backend(attention, compute.device, compute.dtype))
    if choose_compilation(compute.options.compilation, compute.device):
        model.compile_blocks()
    return model


def peak_memory(device: torch.device) -> int:
    """Return the peak bytes that this process has had allocated on a GPU, or resident on the host."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class Inputs(NamedTuple):
    """Arguments of a forward pass."""

    video: Tensor
    audio: Tensor
    timestep: Tensor
    text: TextContext


def random_inputs(model: OviTransformer, shape: BenchShape, device: torch.device, dtype: torch.dtype) -> Inputs:
    """Return random inputs of this shape; the model's text projections must be in use."""
    video, audio = shape.fusion["video"], shape.fusion["audio"]

    def noise(*size: int) -> Tensor:
        return torch.randn(1, *size, device=device, dtype=dtype)

    context = noise(video["text_len"] // 2, video.get("text_dim", 4096))
    return Inputs(
        noise(video["in_dim"], *shape.video),
        noise(shape.audio, audio["in_dim"]),
        torch.full((1,), 500.0, device=device),
        model.prepare_text(context, context),
    )


def run_step(model: OviTransformer, inputs: Inputs, guided: bool) -> None:
    """Run a forward pass; `guided` adds the negative pass with one skipped block."""
    video, audio, timestep, text = inputs
    passes = [Pass(text), Pass(text, skip_block=len(model.fusion_blocks) // 3)]
    model.velocities(video, audio, timestep, passes if guided else passes[:1])


def _count_flops(model: OviTransformer, inputs: Inputs, guided: bool) -> int:
    with FlopCounterMode(display=False) as counter:
        run_step(model, inputs, guided)
    return counter.get_total_flops()


def _randomise(model: nn.Module) -> None:
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


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
