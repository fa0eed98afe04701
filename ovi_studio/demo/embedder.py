"""Texts to embeddings, as the pipeline makes them: a text encoder together with its tokenizer."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase, UMT5EncoderModel

from ovi_studio.core.prompts import AudioTag, clean_text, format_prompt
from ovi_studio.core.spec import DEFAULT_AUDIO_NEGATIVE_PROMPT, DEFAULT_VIDEO_NEGATIVE_PROMPT
from ovi_studio.demo.dimensions import BUNDLE, DIMENSIONS
from ovi_studio.models.text_encoder import encode_texts
from ovi_studio.training.flow import Unconditional

_AUDIO_TAG = AudioTag(BUNDLE["audio_tag"])


def written(prompt: str) -> str:
    """Return a prompt as the tokenizer reads it: cleaned, and with the embedded model's audio tag."""
    return clean_text(format_prompt(prompt, _AUDIO_TAG))


@dataclass(frozen=True)
class Embedder:
    """A frozen text encoder and its tokenizer."""

    encoder: UMT5EncoderModel
    tokenizer: PreTrainedTokenizerBase

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> list[Tensor]:
        """Return the embedding (tokens, dim) of each text."""
        limit = DIMENSIONS["fusion"]["video"]["text_len"]
        return encode_texts(self.encoder, self.tokenizer, [written(text) for text in texts], limit)

    def unconditional(self) -> Unconditional:
        """Return the embeddings of the default negative prompts."""
        return Unconditional(*self([DEFAULT_VIDEO_NEGATIVE_PROMPT, DEFAULT_AUDIO_NEGATIVE_PROMPT]))
