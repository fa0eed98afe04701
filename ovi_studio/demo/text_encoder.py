"""Training of the embedded model's text encoder: it learns to classify captions, and is then frozen.

It is trained by five questions about the caption (colour, shape, background, motion, sound), each answered by a linear
layer from the mean of its token embeddings; these layers are discarded afterwards.
"""

from enum import StrEnum
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedTokenizerBase, UMT5EncoderModel

from ovi_studio.core.prompts import clean_text
from ovi_studio.core.spec import DEFAULT_AUDIO_NEGATIVE_PROMPT, DEFAULT_VIDEO_NEGATIVE_PROMPT
from ovi_studio.demo.bundle_writer import train_tokenizer
from ovi_studio.demo.captions import caption, vocabulary
from ovi_studio.demo.fit import NamedLosses, TrainingBudget, fit
from ovi_studio.demo.scenes import Background, Colour, Motion, Scene, Shape, Sound, draw_scene
from ovi_studio.models.text_encoder import hidden_states

_BATCH = 64
_QUESTIONS: dict[str, type[StrEnum]] = {
    "colour": Colour,
    "shape": Shape,
    "background": Background,
    "motion": Motion,
    "sound": Sound,
}
_UNKNOWN = -100
"""PyTorch's default label for answers that are ignored."""


def caption_tokenizer(vocabulary_size: int, seed: int) -> PreTrainedTokenizerBase:
    """Train a tokenizer on all phrases of captions, on captions, and on the negative prompts."""
    random = np.random.default_rng(seed)
    captions = [caption(draw_scene(random), random) for _ in range(2000)]
    texts = [*vocabulary(), *captions, DEFAULT_VIDEO_NEGATIVE_PROMPT, DEFAULT_AUDIO_NEGATIVE_PROMPT]
    return train_tokenizer(tuple(texts), vocabulary_size)


def train_text_encoder(
    encoder: UMT5EncoderModel, tokenizer: PreTrainedTokenizerBase, budget: TrainingBudget, folder: Path, seed: int
) -> float:
    """Train in place; returns the fraction of right answers about held-out captions."""
    reader = _Reader(encoder)
    fit(reader, partial(_losses, tokenizer=tokenizer, seed=seed), budget, folder)
    return _accuracy(reader.eval(), tokenizer, seed + 1)


class _Reader(nn.Module):
    """The encoder with a linear layer for each question."""

    def __init__(self, encoder: UMT5EncoderModel) -> None:
        super().__init__()
        self.encoder = encoder
        width = encoder.config.d_model
        self.answers = nn.ModuleDict({name: nn.Linear(width, len(kind)) for name, kind in _QUESTIONS.items()})

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        hidden = hidden_states(self.encoder, input_ids, attention_mask)
        mean = hidden.sum(dim=1) / attention_mask.sum(dim=1, keepdim=True)
        return {name: layer(mean) for name, layer in self.answers.items()}


def _losses(reader: nn.Module, step: int, *, tokenizer: PreTrainedTokenizerBase, seed: int) -> NamedLosses:
    random = np.random.default_rng([seed, step])
    texts, labels = _batch(random, [draw_scene(random) for _ in range(_BATCH)])
    device = next(reader.parameters()).device
    tokens = tokenizer(texts, padding=True, return_tensors="pt").to(device)
    answers = reader(tokens.input_ids, tokens.attention_mask)
    return {
        name: functional.cross_entropy(answer, labels[name].to(device), ignore_index=_UNKNOWN)
        for name, answer in answers.items()
    }


@torch.no_grad()
def _accuracy(reader: nn.Module, tokenizer: PreTrainedTokenizerBase, seed: int) -> float:
    random = np.random.default_rng(seed)
    texts, labels = _batch(random, [draw_scene(random, held_out=True) for _ in range(8 * _BATCH)])
    tokens = tokenizer(texts, padding=True, return_tensors="pt").to(next(reader.parameters()).device)
    answers = reader(tokens.input_ids, tokens.attention_mask)
    right = [answer.argmax(dim=1).cpu() == labels[name] for name, answer in answers.items()]
    known = [labels[name] != _UNKNOWN for name in answers]
    return float(torch.stack(right).sum() / torch.stack(known).sum())


def _batch(random: np.random.Generator, scenes: list[Scene]) -> tuple[list[str], dict[str, Tensor]]:
    texts = [clean_text(caption(scene, random)) for scene in scenes]
    labels = {
        name: torch.tensor([list(kind).index(getattr(scene, name)) for scene in scenes])
        for name, kind in _QUESTIONS.items()
    }
    # A sound that the caption does not mention cannot be asked for, except that of a bounce, which always has one.
    silent = torch.tensor(["AUDCAP" not in text for text in texts])
    bounces = torch.tensor([scene.motion is Motion.BOUNCE for scene in scenes])
    labels["sound"][silent & ~bounces] = _UNKNOWN
    return texts, labels
