"""Measurements that anyone can repeat: one forward pass of the transformer in a named shape, and one whole clip.

Weights are random, since speed does not depend on them, so full-size shapes need no checkpoints. The numbers of
floating-point operations are counted by PyTorch on the model itself.
"""

import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ovi_studio.demo.dimensions import DIMENSIONS
from ovi_studio.models.attention import choose_backend
from ovi_studio.models.transformer import OviTransformer, Pass
from ovi_studio.pipeline import Compute
from ovi_studio.variants import published_variants

_SMALL_TOWER = {"dim": 512, "ffn_dim": 2048, "freq_dim": 256, "num_heads": 4, "num_layers": 4, "text_len": 512}
_SMALL = {
    "video": {**_SMALL_TOWER, "text_dim": 512, "patch_size": [1, 2, 2], "in_dim": 48, "out_dim": 48},
    "audio": {**_SMALL_TOWER, "text_dim": 512, "patch_size": [1], "in_dim": 20, "out_dim": 20},
}


@dataclass(frozen=True)
class Shape:
    """Dimensions of the towers and sizes of the latents."""

    fusion: Mapping[str, Any]
    video: tuple[int, int, int]
    """Latent frames, height, width."""
    audio: int


def shapes() -> dict[str, Shape]:
    """Name -> shape. `small` is the one that is compared with the official code on a CPU."""
    full = published_variants()["960x960_5s"].dimensions["fusion"]
    return {
        "small": Shape(_SMALL, (16, 24, 24), 157),
        "demo": Shape(DIMENSIONS["fusion"], (19, 6, 6), 95),
        "704x704_5s": Shape(full, (31, 44, 44), 157),
        "960x960_5s": Shape(full, (31, 60, 60), 157),
        "960x960_10s": Shape(full, (61, 60, 60), 314),
    }


@dataclass(frozen=True)
class Measurement:
    """Seconds of each run after a first one that does not count, operations of one run, and peak memory."""

    seconds: tuple[float, ...]
    flops: int
    peak_bytes: int

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        return (
            f"{self.median:.3f} s (median of {len(self.seconds)}, fastest {min(self.seconds):.3f} s), "
            f"{self.flops / self.median / 1e12:.3f} TFLOP/s, peak memory {self.peak_bytes / 2**30:.2f} GiB"
        )


@torch.no_grad()
def measure_forward(shape: Shape, compute: Compute, repeats: int, *, guided: bool = False) -> Measurement:
    """Time forward passes; `guided` adds the negative pass with one block left out, as in a step with guidance."""
    with torch.device("meta"):
        model = OviTransformer(**shape.fusion)
        flops = _count(model, _inputs(model, shape, torch.device("meta"), torch.float32), guided)
    nn.Module.to(model, compute.dtype)  # diffusers' own `to` warns about casts
    model = _randomised(model.to_empty(device=compute.device)).eval()
    model.set_attention(choose_backend(compute.attention))
    if compute.compiled:
        model.compile_blocks()
    inputs = _inputs(model, shape, compute.device, compute.dtype)
    _run(model, inputs, guided)
    seconds = []
    for _ in range(repeats):
        _synchronise(compute.device)
        start = time.perf_counter()
        _run(model, inputs, guided)
        _synchronise(compute.device)
        seconds.append(time.perf_counter() - start)
    return Measurement(tuple(seconds), flops, peak_memory(compute.device))


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


def _inputs(model: OviTransformer, shape: Shape, device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
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
        if name.endswith("weight") and parameter.dim() == 1:
            parameter.fill_(1.0)  # norms
        else:
            parameter.normal_(std=0.02)
    return model


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
