"""A LoRA (arXiv 2106.09685) of selected layers in both towers: injected through PEFT, saved as an adapter file.

The file has official layer names with their tower (`video_model.blocks.0.self_attn.q.lora_A.weight`), which the adapter
library and other trainers read. Alpha is folded into the tensors, so a reader needs no scale.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

import torch
from peft import LoraConfig, inject_adapter_in_model
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ovi_studio import __version__
from ovi_studio.core.errors import JobError
from ovi_studio.models.transformer import OviTransformer

Layers = Literal["attention", "fusion", "ffn"]
LAYERS: tuple[Layers, ...] = get_args(Layers)
TOWERS = ("video", "audio")
_NAMES: Mapping[Layers, str] = {
    "attention": r"self_attn\.[qkvo]|cross_attn\.[qkvo]",
    "fusion": r"cross_attn\.(k_fusion|v_fusion)",
    "ffn": r"ffn\.[02]",
}
_ADAPTER = "default"
MAX_RANK = 512


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraSettings:
    """Size and target layers of a LoRA. Raises `JobError` if a value is out of range."""

    rank: int = 16
    alpha: float | None = None
    """The update is scaled by alpha / rank; None scales it by 1."""
    layers: Sequence[Layers] = LAYERS
    """Kinds of layers that are adapted."""
    towers: Sequence[str] = TOWERS
    """Towers that are adapted."""

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= MAX_RANK:
            raise JobError(f"The rank must be between 1 and {MAX_RANK}, not {self.rank}.")
        if self.alpha is not None and not 0 < self.alpha <= 10_000:
            raise JobError(f"Alpha must be above 0 and at most 10000, not {self.alpha}.")
        for name, chosen, known in (("layers", self.layers, LAYERS), ("towers", self.towers, TOWERS)):
            if not chosen or not set(chosen) <= set(known):
                raise JobError(f"Choose {name} among {', '.join(known)}, not {', '.join(chosen) or 'none'}.")

    @property
    def scale(self) -> float:
        return 1.0 if self.alpha is None else self.alpha / self.rank


@dataclass(frozen=True, kw_only=True)
class LoraCard:
    """The description of an adapter, saved as the metadata of its file."""

    title: str
    base_model: str
    trigger_words: Sequence[str] = ()
    licence: str = ""
    description: str = ""
    clips: int = 0
    """Number of clips it was trained on."""
    settings: Mapping[str, object] | None = None
    """Training settings, as plain JSON values."""


def add_lora(transformer: OviTransformer, settings: LoraSettings, seed: int = 0) -> None:
    """Freeze the transformer and inject trainable float32 LoRA layers, whose update is initially zero."""
    transformer.requires_grad_(False)
    layers = target_layers(transformer, settings)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the CPU's, which `fork_rng` restores
        config = LoraConfig(
            r=settings.rank, lora_alpha=settings.scale * settings.rank, target_modules=layers, bias="none"
        )
        inject_adapter_in_model(config, transformer, adapter_name=_ADAPTER)
    del transformer.peft_config
    # Float32 whatever the format of the base model.
    for name, parameter in transformer.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)


def load_lora(transformer: OviTransformer, path: Path, settings: LoraSettings) -> None:
    """Initialise the layers that `add_lora` injected from a file of `save_lora`.

    Raises:
        JobError: the file cannot be read, or holds other layers or another rank.
    """
    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise JobError(f"{path} cannot be read as an adapter ({error}).") from error
    own = {
        name.replace(f".{_ADAPTER}.", "."): parameter
        for name, parameter in transformer.named_parameters()
        if ".lora_" in name
    }
    if _shapes(stored) != _shapes(own):
        raise JobError(f"{path} does not hold the layers of this training at rank {settings.rank}; start without it.")
    with torch.no_grad():
        for name, parameter in own.items():
            scale = settings.scale if ".lora_B." in name else 1.0
            parameter.copy_(stored[name] / scale)


def target_layers(transformer: OviTransformer, settings: LoraSettings) -> list[str]:
    """Return the official names of the linear layers that the settings select."""
    towers, layers = "|".join(settings.towers), "|".join(_NAMES[kind] for kind in settings.layers)
    pattern = re.compile(rf"({towers})_model\.blocks\.\d+\.({layers})")
    return [
        name
        for name, module in transformer.named_modules()
        if isinstance(module, nn.Linear) and pattern.fullmatch(name)
    ]


def save_lora(weights: Mapping[str, Tensor], path: Path, settings: LoraSettings, card: LoraCard) -> None:
    """Write the trained layers atomically as an adapter file.

    Args:
        weights: the injected parameters under their names in the transformer, as `add_lora` leaves them.
    """
    tensors = {}
    for name, tensor in weights.items():
        # The scale is folded into `lora_B`.
        scale = settings.scale if ".lora_B." in name else 1.0
        tensors[name.replace(f".{_ADAPTER}.", ".")] = (tensor.detach().float().cpu() * scale).contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        save_file(tensors, part, _metadata(settings, card))
        part.chmod(0o644)  # safetensors writes files that only their owner can read
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _metadata(settings: LoraSettings, card: LoraCard) -> dict[str, str]:
    """Return the metadata under the keys that LoRA managers read: `modelspec.*` (Stability AI), `ss_*` (kohya)."""
    values = {
        "format": "pt",
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "ovi/lora",
        "modelspec.implementation": f"Ovi Studio {__version__}",
        "modelspec.title": card.title,
        "modelspec.description": card.description,
        "modelspec.license": card.licence,
        "modelspec.trigger_phrase": ", ".join(card.trigger_words),
        "modelspec.date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "ss_base_model_version": card.base_model,
        "ss_network_dim": str(settings.rank),
        "ss_network_alpha": f"{settings.scale * settings.rank:g}",
        "ss_num_train_images": str(card.clips) if card.clips else "",
        "ovi_studio.layers": ", ".join(settings.layers),
        "ovi_studio.towers": ", ".join(settings.towers),
        "ovi_studio.settings": json.dumps(card.settings) if card.settings else "",
    }
    return {name: value for name, value in values.items() if value}
