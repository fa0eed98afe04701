"""The model of time: parameters, operations and transferred bytes of a pass, from the sizes of the towers alone.

These are formulas, not measurements: `plan` uses them for predictions, and tests compare the operations with torch's
count on the real model (tests/unit/capacity/test_plan.py) and the bytes with the real collectives
(tests/ranks/test_layouts.py). A multiplication and an addition count as two operations. Transferred bytes are those
that one rank sends, or receives when it gathers weights. Rates are operations per second, link speeds bytes per second
in each direction. Nothing here imports torch.

    seconds a step = exchanged / link + max(operations / (ATTAINED * rate), gathered / link)
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LOG_SUM_BYTES = 4
"""Size of a log-sum-exp, which is exchanged in float32."""
ATTAINED = 0.78
"""Achieved fraction of the rated operations per second, including memory traffic and attention; estimated."""
LINKS = {"pcie3": 6e9, "pcie4": 10e9, "pcie5": 20e9, "nvlink": 100e9}
"""Name -> bytes per second in each direction that collectives achieve per GPU; PCIe without peer-to-peer."""
RATES = {
    "3090": 71e12,
    "3090 Ti": 80e12,
    "4090": 165e12,
    "5090": 209e12,
    "A6000": 155e12,
    "A100": 312e12,
    "H100": 989e12,
}
"""Part of a GPU's name -> rated dense bf16 operations per second; the longest matching part applies."""


@dataclass(frozen=True)
class TowerSizes:
    """The sizes that both towers share, and their numbers of parameters."""

    dim: int
    ffn_dim: int
    layers: int
    heads: int
    text_tokens: int
    video_width: int
    """Number of values in the velocity of a video token."""
    audio_width: int
    """Number of values in the velocity of an audio token."""
    block_parameters: int
    """Parameters of one fusion block, with the halves of both towers."""
    other_parameters: int
    """Parameters of the embeddings and heads of both towers."""

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
            # Ten d x d layers with biases, two norms each for queries and keys, norm3 and the norm between the towers
            # with weight and bias, the feed-forward layers, six rows of modulation.
            block_parameters=2 * (10 * (d * d + d) + 5 * d + 4 * d + 2 * d * f + f + d + 6 * d),
            other_parameters=_video_embedding(video)
            + _audio_embedding(audio)
            + _conditioning(video)
            + _conditioning(audio),
        )

    @property
    def parameters(self) -> int:
        """Parameters of the whole transformer."""
        return self.layers * self.block_parameters + self.other_parameters

    def flops(self, video_tokens: int, audio_tokens: int, ranks: int = 1) -> float:
        """Operations of a forward pass on one of `ranks` that share the video tokens; each rank computes all audio."""
        d, f = self.dim, self.ffn_dim
        video, audio = video_tokens / ranks, audio_tokens
        # Self-attention's four layers, query and output of cross-attention, feed-forward; then the layers that compute
        # keys and values of the other tower's tokens.
        linear = (video + audio) * (12 * d * d + 4 * d * f) + (video + audio) * 4 * d * d
        attention = 4 * d * (video_tokens * video + audio * audio)
        text = 4 * d * self.text_tokens * (video + audio)
        between = 2 * 4 * d * video * audio
        return self.layers * (linear + attention + text + between)

    def exchanged(self, video_tokens: int, audio_tokens: int, ranks: int, item: int) -> int:
        """Bytes that a rank sends in a forward pass whose video tokens are split over `ranks`.

        A block exchanges queries, keys and values, then the result of attention. Audio's partial results are summed by
        a ring all-reduce (twice the tensor, less the rank's own share), and their log-sum-exps are sent to all ranks,
        as are the velocities of the rank's tokens at the end.
        """
        if ranks == 1:
            return 0
        share = math.ceil(video_tokens / ranks)
        video = 4 * share * self.dim * item * (ranks - 1) // ranks
        merge = 2 * audio_tokens * self.dim * item * (ranks - 1) // ranks
        log_sums = audio_tokens * self.heads * LOG_SUM_BYTES * (ranks - 1)
        return self.layers * (video + merge + log_sums) + share * self.video_width * item * (ranks - 1)

    def velocity_bytes(self, video_tokens: int, audio_tokens: int, item: int) -> int:
        """Bytes of the result of one pass, which the ranks exchange once per step."""
        return (video_tokens * self.video_width + audio_tokens * self.audio_width) * item

    def gathered(self, blocks: int, ranks: int, item: float) -> float:
        """Bytes that a rank receives when it gathers the weights of `blocks` sharded over `ranks`."""
        return blocks * self.block_parameters * item * (ranks - 1) / ranks


def seconds_a_step(operations: float, rate: float, exchanged: float, gathered: float, link: float) -> float:
    """Duration of a step: the exchange of tokens blocks computation, while weights arrive during computation."""
    return exchanged / link + max(operations / (rate * ATTAINED), gathered / link)


def _video_embedding(tower: Mapping[str, Any]) -> int:
    """Parameters of the video tower's patch embedding and head."""
    patch = math.prod(tower["patch_size"])
    d, out = tower["dim"], patch * tower["out_dim"]
    return tower["in_dim"] * patch * d + d + d * out + out + 2 * d


def _audio_embedding(tower: Mapping[str, Any]) -> int:
    """Parameters of the audio tower's patch embedding and head."""
    d, out = tower["dim"], math.prod(tower["patch_size"]) * tower["out_dim"]
    width = 256 * math.ceil(2 * 4 * d // 3 / 256)
    return 7 * tower["in_dim"] * d + d + 3 * 7 * d * width + d * out + out + 2 * d


def _conditioning(tower: Mapping[str, Any]) -> int:
    """Parameters of text and time embedding, and of the projection of time to six values."""
    d = tower["dim"]
    return (tower.get("text_dim", 4096) + tower["freq_dim"]) * d + 2 * d + 2 * (d * d + d) + 6 * (d * d + d)
