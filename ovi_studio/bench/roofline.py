"""What a step and a decoded latent frame read, write and compute, and the least time that this takes on named GPUs.

Counted on the meta device (`bench.traffic`). The floor of a kind of operations is the longer of operations / rate and
bytes / bandwidth; nothing runs faster. What is expected takes the sectors that are moved instead of the bytes, and the
fraction of rate and bandwidth that each kind attained in a step that was profiled on an H200 (docs/performance.md).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from ovi_studio.bench.steps import BenchShape, random_inputs, run_step
from ovi_studio.bench.traffic import Kind, Traffic, TrafficCounter
from ovi_studio.capacity.arithmetic import RATES
from ovi_studio.checkpoints.number_formats import prepare
from ovi_studio.core.weight_formats import Weights
from ovi_studio.models.causal_layers import make_channels_last
from ovi_studio.models.transformer import OviTransformer
from ovi_studio.models.video_vae import build_video_vae, decode

_META = torch.device("meta")


@dataclass(frozen=True)
class Card:
    """A GPU."""

    rate: float
    """Dense bf16 operations per second."""
    bandwidth: float
    """Bytes per second of its memory."""


CARDS: Mapping[str, Card] = {
    "3090": Card(RATES["3090"], 936e9),
    "4090": Card(RATES["4090"], 1008e9),
    "H100": Card(RATES["H100"], 3.35e12),
    "H200": Card(802e12, 4.2e12),
}
"""By the vendor's data sheets; the H200 as measured (docs/performance.md): a large product, and a large copy."""


_ATTAINED: Mapping[Kind, float] = {Kind.ATTENTION: 0.72, Kind.NORM: 0.62, Kind.FUSED: 0.4}
"""Fraction of rate and bandwidth in the profiled step; all of it where a kind is not named."""


@torch.no_grad()
def step_traffic(
    shape: BenchShape, *, guided: bool, compiled: bool = False, weights: Weights = Weights.BF16
) -> dict[Kind, Traffic]:
    """Count a step in bfloat16; `guided` adds the negative pass with one skipped block."""
    with _META:
        model = OviTransformer(**shape.fusion).eval()
        prepare(model, weights)
    for name, parameter in model.named_parameters():
        if parameter.dtype == torch.float32 and not name.endswith("weight_scale"):
            parameter.data = parameter.data.bfloat16()
    inputs = random_inputs(model, shape, _META, torch.bfloat16)
    with TrafficCounter() as counter:
        if compiled:
            _count_as_compiled(model, counter)
        run_step(model, inputs, guided)
    return counter.by_kind()


@torch.no_grad()
def frame_traffic(shape: BenchShape) -> dict[Kind, Traffic]:
    """Count the decoding of a latent frame in bfloat16, whole frames, as it is in the middle of a clip."""
    if shape.video_vae is None:
        return {}
    with _META:
        vae = build_video_vae(shape.video_vae).eval().bfloat16()
    make_channels_last(vae)
    channels = shape.video_vae["z_dim"]

    def decoded(frames: int) -> dict[Kind, Traffic]:
        latents = torch.empty(channels, frames, *shape.video[1:], dtype=torch.bfloat16, device=_META)
        with TrafficCounter() as counter:
            for _ in decode(vae, latents):
                pass
        return counter.by_kind()

    fewer, more = decoded(3), decoded(4)
    return {kind: traffic - fewer.get(kind, Traffic()) for kind, traffic in more.items()}


def floor(traffic: Traffic, card: Card) -> float:
    """Return the least seconds on a card."""
    return max(traffic.flops / card.rate, traffic.bytes / card.bandwidth)


def expected(kind: Kind, traffic: Traffic, card: Card) -> float:
    """Return the seconds that a card is expected to take."""
    return max(traffic.flops / card.rate, traffic.moved / card.bandwidth) / _ATTAINED.get(kind, 1.0)


def report(counted: Mapping[Kind, Traffic]) -> Iterator[str]:
    """Yield the lines of a table: a row for each kind, then their sum; milliseconds are floor / expected."""
    title = f"{'':16}{'kernels':>8}{'read GB':>10}{'written':>10}{'moved':>10}{'TFLOP':>9}"
    yield title + "".join(f"{card + ', ms':>18}" for card in CARDS)
    floors, likely = dict.fromkeys(CARDS, 0.0), dict.fromkeys(CARDS, 0.0)
    for kind in (kind for kind in Kind if kind in counted):
        one = counted[kind]
        own = {name: (floor(one, card), expected(kind, one, card)) for name, card in CARDS.items()}
        yield _row(kind, one, own)
        for name, (least, most) in own.items():
            floors[name] += least
            likely[name] += most
    yield _row("all", sum(counted.values(), Traffic()), {name: (floors[name], likely[name]) for name in CARDS})


def _row(name: str, one: Traffic, seconds: Mapping[str, tuple[float, float]]) -> str:
    gigabytes = "".join(f"{count / 1e9:>10.2f}" for count in (one.read, one.written, one.moved))
    times = "".join(f"{f'{least * 1e3:.1f} / {likely * 1e3:.1f}':>18}" for least, likely in seconds.values())
    return f"{name:16}{one.kernels:>8}{gigabytes}{one.flops / 1e12:>9.2f}{times}"


def _count_as_compiled(model: OviTransformer, counter: TrafficCounter) -> None:
    """Let every pass through a block be a compiled region, as `OviTransformer.compile_blocks` does."""
    for block in model.fusion_blocks:
        block.forward_one = counter.compiled()(block.forward_one)  # type: ignore[method-assign]  # of this block alone
