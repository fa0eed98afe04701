"""Write models as a bundle: a directory in the published layout with a description in `bundle.json`.

`python -m ovi_studio.demo make DIR` writes the embedded bundle with untrained weights. Files are split below 10 MB, the
largest size that a Hugging Face Space accepts without extra storage.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn
from transformers import PreTrainedTokenizerFast

from ovi_studio.checkpoints.load import Models
from ovi_studio.core.variants import Part, read_bundle
from ovi_studio.models.audio_vae import AudioVAE
from ovi_studio.models.text_encoder import build_text_encoder
from ovi_studio.models.transformer import OviTransformer
from ovi_studio.models.video_vae import build_video_vae
from ovi_studio.models.vocoder import Vocoder

SHARD_SIZE = "9MB"

_VOCABULARY_TEXT = (
    "a red ball bounces on a green floor, a blue square moves from left to right over a white background",
    "a large yellow triangle rises slowly while a high tone plays, an orange star circles, a purple ring stays still",
    "a cyan cube falls and hits the ground with a thud, a pink disc slides from right to left in front of a grey wall",
    "the object jumps and lands with a loud impact; wind blows softly; silence; a low tone; a rising pitch; noise",
    "<AUDCAP>a deep thump at every bounce<ENDAUDCAP> <AUDCAP>steady wind noise<ENDAUDCAP> <AUDCAP>silence<ENDAUDCAP>",
    "jitter, bad hands, blur, distortion, robotic, muffled, echo, distorted",
    "a person says <S>hello, this is a small demo<E> and smiles at the camera in a bright room",
)


def build_models(dimensions: Mapping[str, Any], seed: int = 0) -> Models:
    """Build untrained models of these dimensions and a matching tokenizer; the seed determines the weights."""
    torch.manual_seed(seed)
    transformer = OviTransformer(**dimensions["fusion"])
    return Models(
        transformer=transformer,
        text_encoder=build_text_encoder(dimensions["text_encoder"]),
        tokenizer=train_tokenizer(_VOCABULARY_TEXT, dimensions["text_encoder"]["vocab_size"]),
        video_vae=build_video_vae(dimensions["video_vae"]),
        audio_vae=AudioVAE(**dimensions["audio_codec"]["vae"]),
        vocoder=Vocoder.from_config(dimensions["audio_codec"]["vocoder"]),
    )


def train_tokenizer(texts: tuple[str, ...], vocabulary_size: int) -> PreTrainedTokenizerFast:
    """Train byte-pair encoding over lower-cased bytes: it reads any text, and frequent words become one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=["<pad>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    end = tokenizer.token_to_id("</s>")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", end)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>")


def write_bundle(bundle: Mapping[str, Any], weights: Models, directory: Path, dtype: torch.dtype) -> None:
    """Write `bundle.json` and every model to `directory`, weights in `dtype`."""
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(bundle, indent=1) + "\n"
    (directory / "bundle.json").write_text(text, encoding="utf-8")
    files = read_bundle(directory).files
    by_part: dict[Part, nn.Module] = {
        Part.TRANSFORMER: weights.transformer,
        Part.TEXT_ENCODER: weights.text_encoder,
        Part.VIDEO_VAE: weights.video_vae,
        Part.AUDIO_VAE: weights.audio_vae,
        Part.VOCODER: weights.vocoder,
    }
    for part, model in by_part.items():
        _write_weights(model, directory / files[part][0].location, dtype)
    tokenizer_folder = (directory / files[Part.TOKENIZER][0].location).parent
    weights.tokenizer.save_pretrained(tokenizer_folder)


def _write_weights(model: nn.Module, path: Path, dtype: torch.dtype) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().to(dtype).contiguous() for name, tensor in model.state_dict().items()}
    # The text encoder's embedding is in its state under two names; the loader needs only one.
    tensors.pop("encoder.embed_tokens.weight", None)
    save_torch_state_dict(
        tensors,
        path.parent,
        filename_pattern=path.stem + "{suffix}.safetensors",
        max_shard_size=SHARD_SIZE,
        metadata={"format": "pt"},
    )
    for file in path.parent.glob(f"{path.stem}*.safetensors"):
        file.chmod(0o644)  # safetensors writes files that only their owner can read
