"""The model of time: parameters, operations and bytes on the link of a pass, from the sizes of the towers alone.

Formulas, not measurements: `plan` predicts with them, and tests compare operations with what torch counts on the real
model (tests/unit/capacity/test_plan.py) and bytes with the real collectives (tests/ranks/test_layouts.py). Operations
count a multiplication and an addition as two. Bytes on the link are those that one rank sends to others, or receives of
gathered weights. Rates are operations a second, links bytes a second each way. Nothing here imports torch.

    seconds a step = exchanged / link + max(operations / (ATTAINED * rate), gathered / link)
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LOG_SUM_BYTES = 4
"""Log-sum-exps are exchanged in float32."""
ATTAINED = 0.78
"""Of the rated operations a second, with memory traffic and attention; estimated."""
LINKS = {"pcie3": 6e9, "pcie4": 10e9, "pcie5": 20e9, "nvlink": 100e9}
"""Name -> bytes a second each way that a GPU gets through collectives; without peer-to-peer for PCIe."""
RATES = {
    "3090": 71e12,
    "3090 Ti": 80e12,
    "4090": 165e12,
    "5090": 209e12,
    "A6000": 155e12,
    "A100": 312e12,
    "H100": 989e12,
}
"""Part of a GPU's name -> its rated operations a second in bf16, dense; the longest part that fits counts."""


@dataclass(frozen=True)
class TowerSizes:
    """The sizes that both towers share, and the numbers of their parameters."""

    dim: int
    ffn_dim: int
    layers: int
    heads: int
    text_tokens: int
    video_width: int
    """Numbers that a video token's velocity has."""
    audio_width: int
    block_parameters: int
    """Of one fusion block: both towers' halves."""
    other_parameters: int
    """Embeddings and heads of both towers."""

    @classmethod
    def of(cls, dimensions: Mapping[str, Any]) -> "TowerSizes":
        """From a variant's dimensions (`Variant.dimensions`)."""
        video, audio = dimensions["fusion"]["video"], dimensions["fusion"]["audio"]
        d, f = video["dim"], video["ffn_dim"]
        return cls(
            dim=d,
            ffn_dim=f,
            layers=video["num_layers"],
            heads=video["num_heads"],
            text_tokens=video["text_len"],
            video_width=math.prod(video["patch_size"]) * video["out_dim"],
            audio_width=math.prod(audio["patch_size"]) * audio["out_dim"],
            # ten d x d layers with their biases, two norms for queries and keys each, norm3 and the norm between the
            # towers with weight and bias, the feed-forward layers, six rows of modulation
            block_parameters=2 * (10 * (d * d + d) + 5 * d + 4 * d + 2 * d * f + f + d + 6 * d),
            other_parameters=_video_embedding(video) + _audio_embedding(audio) + _shared(video) + _shared(audio),
        )

    @property
    def parameters(self) -> int:
        return self.layers * self.block_parameters + self.other_parameters

    def flops(self, video_tokens: int, audio_tokens: int, ranks: int = 1) -> float:
        """Operations of a forward pass on one of `ranks` that share the video tokens; audio is computed on each."""
        d, f = self.dim, self.ffn_dim
        video, audio = video_tokens / ranks, audio_tokens
        # Self-attention's four layers, query and output of cross-attention, feed-forward; then the layers that make
        # keys and values of the other tower's tokens.
        linear = (video + audio) * (12 * d * d + 4 * d * f) + (video + audio) * 4 * d * d
        attention = 4 * d * (video_tokens * video + audio * audio)
        text = 4 * d * self.text_tokens * (video + audio)
        between = 2 * 4 * d * video * audio
        return self.layers * (linear + attention + text + between)

    def exchanged(self, video_tokens: int, audio_tokens: int, ranks: int, item: int) -> int:
        """Bytes that a rank sends in a forward pass whose video tokens are shared by `ranks`.

        A block exchanges queries, keys and values, then the result of attention; audio's partial results are added
        up (a ring: twice the tensor, less its own share), and their log-sum-exps go to everybody. At the end so do the
        velocities of its tokens.
        """
        if ranks == 1:
            return 0
        share = math.ceil(video_tokens / ranks)
        video = 4 * share * self.dim * item * (ranks - 1) // ranks
        merge = 2 * audio_tokens * self.dim * item * (ranks - 1) // ranks
        log_sums = audio_tokens * self.heads * LOG_SUM_BYTES * (ranks - 1)
        return self.layers * (video + merge + log_sums) + share * self.video_width * item * (ranks - 1)

    def velocity_bytes(self, video_tokens: int, audio_tokens: int, item: int) -> int:
        """Of the result of one pass, which goes round among all ranks once a step."""
        return (video_tokens * self.video_width + audio_tokens * self.audio_width) * item

    def gathered(self, blocks: int, ranks: int, item: float) -> float:
        """Bytes that a rank receives when it gathers the weights of `blocks` sharded over `ranks`."""
        return blocks * self.block_parameters * item * (ranks - 1) / ranks


def seconds_a_step(operations: float, rate: float, exchanged: float, gathered: float, link: float) -> float:
    """Of a step in which tokens are exchanged between computations, and weights arrive while the GPU computes."""
    return exchanged / link + max(operations / (rate * ATTAINED), gathered / link)


def _video_embedding(tower: Mapping[str, Any]) -> int:
    patch = math.prod(tower["patch_size"])
    d, out = tower["dim"], patch * tower["out_dim"]
    return tower["in_dim"] * patch * d + d + d * out + out + 2 * d


def _audio_embedding(tower: Mapping[str, Any]) -> int:
    d, out = tower["dim"], math.prod(tower["patch_size"]) * tower["out_dim"]
    width = 256 * math.ceil(2 * 4 * d // 3 / 256)
    return 7 * tower["in_dim"] * d + d + 3 * 7 * d * width + d * out + out + 2 * d


def _shared(tower: Mapping[str, Any]) -> int:
    """Text and time embedding, and the projection of time to six values."""
    d = tower["dim"]
    return (tower.get("text_dim", 4096) + tower["freq_dim"]) * d + 2 * d + 2 * (d * d + d) + 6 * (d * d + d)
