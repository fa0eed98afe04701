"""Training of the embedded model's text encoder: it learns to classify prompts, and is then frozen.

It is trained by five questions about the scene that the prompt means (colour, shape, background, motion, sound), each
answered by a linear layer from the mean of its token embeddings; these layers are discarded afterwards. An encoder that
is trained further also learns that a transformer reads a prompt like the full caption of its scene (`reading`).
"""

from collections.abc import Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedTokenizerBase, UMT5EncoderModel

from ovi_studio.core.spec import DEFAULT_AUDIO_NEGATIVE_PROMPT, DEFAULT_VIDEO_NEGATIVE_PROMPT
from ovi_studio.demo import captions, phrasing
from ovi_studio.demo.bundle_writer import train_tokenizer
from ovi_studio.demo.captions import caption
from ovi_studio.demo.embedder import Embedder, written
from ovi_studio.demo.fit import NamedLosses, TrainingBudget, fit
from ovi_studio.demo.phrasing import Prompt, full_caption, training_prompt, unseen_prompt
from ovi_studio.demo.reading import Reading
from ovi_studio.demo.scenes import Background, Colour, Motion, Shape, Sound, draw_scene
from ovi_studio.models.text_encoder import hidden_states

_BATCH, _READ_BATCH = 64, 24
"""Prompts in a step, and how many of them the transformer reads, which is what costs most."""
_TEXTS = 6000
"""Captions and prompts that the tokenizer is trained on, each."""
_READ = 6.0
"""Weight of the distance from what the transformer reads in full captions."""
_NEGATIVE = (DEFAULT_VIDEO_NEGATIVE_PROMPT, DEFAULT_AUDIO_NEGATIVE_PROMPT)
_QUESTIONS: dict[str, type[StrEnum]] = {
    "colour": Colour,
    "shape": Shape,
    "background": Background,
    "motion": Motion,
    "sound": Sound,
}


def caption_tokenizer(vocabulary_size: int, seed: int) -> PreTrainedTokenizerBase:
    """Train a tokenizer on all phrases of captions and prompts, on both, and on the negative prompts."""
    random = np.random.default_rng(seed)
    scenes = [draw_scene(random) for _ in range(_TEXTS)]
    texts = [text for scene in scenes for text in (caption(scene, random), training_prompt(scene, random).text)]
    return train_tokenizer((*captions.vocabulary(), *phrasing.vocabulary(), *texts, *_NEGATIVE), vocabulary_size)


@torch.no_grad()
def adopt(encoder: UMT5EncoderModel, tokenizer: PreTrainedTokenizerBase, start: Embedder) -> None:
    """Give an encoder the weights of another one with the same dimensions but another tokenizer.

    A token starts with the mean of the embeddings of its parts in the other tokenizer.
    """
    weights = start.encoder.state_dict()
    known = weights["shared.weight"]
    table = encoder.get_input_embeddings().weight
    for token, index in tokenizer.get_vocab().items():
        parts = start.tokenizer.backend_tokenizer.model.tokenize(token) if token not in ("<pad>", "</s>") else []
        ids = [part.id for part in parts] or [start.tokenizer.convert_tokens_to_ids(token)]
        table[index] = known[ids].mean(dim=0)
    others = {name: tensor for name, tensor in weights.items() if tensor.shape != known.shape}
    encoder.load_state_dict({**encoder.state_dict(), **others})


def train_text_encoder(
    encoder: UMT5EncoderModel,
    tokenizer: PreTrainedTokenizerBase,
    budget: TrainingBudget,
    folder: Path,
    seed: int,
    reading: Reading | None = None,
) -> dict[str, float]:
    """Train in place; returns the fractions of right answers about kinds of prompts that it has never seen.

    Args:
        reading: what read the encoder before further training.
    """
    reader = _Reader(encoder)
    fit(reader, partial(_losses, tokenizer=tokenizer, seed=seed, reading=reading), budget, folder)
    random = np.random.default_rng(seed + 1)
    scenes = [draw_scene(random, held_out=True) for _ in range(8 * _BATCH)]
    return {
        kind: _accuracy(reader.eval(), tokenizer, [write(scene) for scene in scenes])
        for kind, write in (
            ("full captions", lambda scene: full_caption(scene, random)),
            ("prompts of unseen kinds", lambda scene: unseen_prompt(scene, random, int(random.integers(1, 4)))),
        )
    }


class _Reader(nn.Module):
    """The encoder with a linear layer for each question."""

    def __init__(self, encoder: UMT5EncoderModel) -> None:
        super().__init__()
        self.encoder = encoder
        width = encoder.config.d_model
        self.answers = nn.ModuleDict({name: nn.Linear(width, len(kind)) for name, kind in _QUESTIONS.items()})

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        hidden = hidden_states(self.encoder, input_ids, attention_mask)
        mean = hidden.sum(dim=1) / attention_mask.sum(dim=1, keepdim=True)
        return {name: layer(mean) for name, layer in self.answers.items()}, hidden


def _losses(
    reader: nn.Module, step: int, *, tokenizer: PreTrainedTokenizerBase, seed: int, reading: Reading | None
) -> NamedLosses:
    random = np.random.default_rng([seed, step])
    prompts = [training_prompt(draw_scene(random), random) for _ in range(_BATCH)]
    device = next(reader.parameters()).device
    texts, labels = [written(prompt.text) for prompt in prompts], _labels(prompts)
    tokens = tokenizer([*texts, *_NEGATIVE], padding=True, return_tensors="pt").to(device)
    answers, hidden = reader(tokens.input_ids, tokens.attention_mask)
    losses = {
        name: functional.cross_entropy(answer[:_BATCH], labels[name].to(device)) for name, answer in answers.items()
    }
    if reading is not None:
        # A caption that names everything is read as it was, a prompt like any caption of its scene.
        full = [
            prompt.text if _is_complete(prompt) else caption(prompt.scene, random, complete=True)
            for prompt in prompts[:_READ_BATCH]
        ]
        read = torch.cat([hidden[:_READ_BATCH], hidden[_BATCH:]])
        losses["reading"] = _READ * reading.distance(read, [*full, *_NEGATIVE], step)
    return losses


@torch.no_grad()
def _accuracy(reader: nn.Module, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt]) -> float:
    labels, texts = _labels(prompts), [written(prompt.text) for prompt in prompts]
    tokens = tokenizer(texts, padding=True, return_tensors="pt").to(next(reader.parameters()).device)
    answers, _ = reader(tokens.input_ids, tokens.attention_mask)
    right = [answer.argmax(dim=1).cpu() == labels[name] for name, answer in answers.items()]
    return float(torch.stack(right).float().mean())


def _is_complete(prompt: Prompt) -> bool:
    """Whether a prompt is a caption that names everything."""
    return prompt.is_caption and len(prompt.named) == len(_QUESTIONS)


def _labels(prompts: Sequence[Prompt]) -> dict[str, Tensor]:
    """Return the number of the right answer of each prompt to every question."""
    return {
        name: torch.tensor([list(kind).index(getattr(prompt.scene, name)) for prompt in prompts])
        for name, kind in _QUESTIONS.items()
    }
