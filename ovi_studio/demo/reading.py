"""What a transformer reads from texts: the results of its cross-attention, for queries that it really asks.

A text encoder that is trained further learns to be read as before: to a transformer, a prompt is like the full caption
of the scene that the prompt means. Nothing else of the transformer is computed, so a step is quick.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from ovi_studio.demo.embedder import Embedder
from ovi_studio.models.transformer import OviTransformer
from ovi_studio.sampling.solvers import TRAIN_TIMESTEPS
from ovi_studio.training.cache import Sample

_SIGMAS = (0.98, 0.9, 0.75, 0.5, 0.2)
_QUERIES = 48
"""Queries of each block and tower in a step."""


@dataclass(frozen=True)
class Reading:
    """The transformer whose reading must not change, and the encoder that it was trained with."""

    transformer: OviTransformer
    text: Embedder
    queries: Sequence[Tensor]
    """Of each block's video and then audio tower, (queries, heads, head dim)."""

    def distance(self, embeddings: Tensor, texts: Sequence[str], step: int) -> Tensor:
        """Return how differently embeddings (batch, tokens, dim), zero-padded, are read from these texts, a scalar.

        It is 0 if they are read alike, and 1 for embeddings that say as much as their mean.
        """
        expected = self._read(pad_sequence(self.text(texts), batch_first=True).to(embeddings), step)
        found = self._read(embeddings, step)
        distances = [
            (one - other).square().mean() / (other - other.mean(dim=0)).square().mean()
            for one, other in zip(found, expected, strict=True)
        ]
        return torch.stack(distances).mean()

    def _read(self, embeddings: Tensor, step: int) -> list[Tensor]:
        context = self.transformer.prepare_text(embeddings, embeddings)
        generator = torch.Generator().manual_seed(step)
        results = []
        texts = [text for both in zip(*context, strict=True) for text in both]
        for text, queries in zip(texts, self.queries, strict=True):
            chosen = queries[torch.randint(len(queries), (_QUERIES,), generator=generator)].to(embeddings)
            query = chosen.transpose(0, 1).expand(len(embeddings), -1, -1, -1)
            key, value = (part.transpose(1, 2) for part in (text.key, text.value))
            results.append(functional.scaled_dot_product_attention(query, key, value))
        return results


@torch.no_grad()
def prepare_reading(transformer: OviTransformer, text: Embedder, samples: Sequence[Sample]) -> Reading:
    """Collect the queries that the transformer asks about encoded scenes at several noise levels."""
    found: list[list[Tensor]] = []
    layers = [tower.cross_attn for block in transformer.fusion_blocks for tower in (block.video, block.audio)]
    hooks = []
    for layer in layers:
        found.append([])
        hooks.append(
            layer.norm_q.register_forward_hook(
                lambda _, inputs, output, kept=found[-1], heads=layer.heads: kept.append(heads(output).flatten(0, 1))
            )
        )
    generator = torch.Generator().manual_seed(0)
    try:
        for sample in samples:
            for sigma in _SIGMAS:
                video, audio = (
                    torch.lerp(clean, torch.randn(clean.shape, generator=generator), sigma).unsqueeze(0)
                    for clean in (sample.video, sample.audio)
                )
                context = transformer.prepare_text(sample.texts[0].unsqueeze(0), sample.texts[0].unsqueeze(0))
                transformer(video, audio, torch.tensor([sigma * TRAIN_TIMESTEPS]), context)
    finally:
        for hook in hooks:
            hook.remove()
    return Reading(transformer, text, [torch.cat(kept) for kept in found])
