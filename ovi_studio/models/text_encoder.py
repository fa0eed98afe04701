"""The UMT5 text encoder (transformers' model) and its tokenizer, used as the official code uses them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase, UMT5Config, UMT5EncoderModel

from ovi_studio.core.prompts import clean_text


def build_text_encoder(config: Mapping[str, Any]) -> UMT5EncoderModel:
    """Build the encoder from the official dimensions (`models/ovi.json`, entry `text_encoder`)."""
    if config["shared_pos"]:
        raise ValueError("text encoders with one position bias for all layers are not supported")
    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=config["vocab_size"],
            d_model=config["dim"],
            d_kv=config["dim_attn"] // config["num_heads"],
            d_ff=config["dim_ffn"],
            num_layers=config["num_layers"],
            num_heads=config["num_heads"],
            relative_attention_num_buckets=config["num_buckets"],
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
        )
    )


def load_tokenizer(files: Sequence[Path]) -> PreTrainedTokenizerBase:
    """Load the tokenizer from the folder that holds `files`; never from the network."""
    return AutoTokenizer.from_pretrained(files[0].parent, local_files_only=True)


def encode_texts(
    encoder: UMT5EncoderModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_tokens: int
) -> list[Tensor]:
    """Return embeddings (tokens, dim) of each text, truncated to `max_tokens` tokens, without padding."""
    tokens = tokenizer(
        [clean_text(text) for text in texts],
        padding=True,
        truncation=True,
        max_length=max_tokens,
        add_special_tokens=True,
        return_tensors="pt",
    )
    # Padding is masked in every layer, so padding only to the longest text changes nothing.
    mask = tokens.attention_mask.to(encoder.device)
    hidden = encoder(input_ids=tokens.input_ids.to(encoder.device), attention_mask=mask).last_hidden_state
    lengths = tokens.attention_mask.sum(dim=1).tolist()
    return [embedding[:length] for embedding, length in zip(hidden, lengths, strict=True)]


def hidden_states(encoder: UMT5EncoderModel, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Return the last hidden states (batch, tokens, dim), zero where `attention_mask` is zero."""
    hidden = encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
    return torch.where(attention_mask.bool().unsqueeze(-1), hidden, 0)
