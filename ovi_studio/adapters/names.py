"""Maps layer names in the styles of different trainers to the official parameter names. Imports no torch.

A flat name (`lora_unet_blocks_0_cross_attn_k_fusion`) cannot be split at its underscores. So names are not parsed:
all spellings of each of the model's own names are generated once and looked up. Spellings are compared with dots as
underscores, without the words that wrappers and trainers add, and with the tower in front wherever a name has it
(`blocks.0.audio_block.self_attn.q`). Bare Wan names mean the video tower, since both towers have the same shapes and
only a name can distinguish them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from copy import copy

from ovi_studio.core.towers import Tower

Shape = tuple[int, ...]

_WRAPPERS = (
    "orig_mod",
    "checkpoint_wrapped_module",
    "fsdp_wrapped_module",
    "fpw_module",
    "forward_module",
    "original_module",
    "inner_model",
    "base_model",
    "base_layer",
    "diffusion_model",
    "ema_model",
    "state_dict",
    "lora_unet",
    "lora_transformer",
    "lycoris",
    "lora",
    "module",
    "model",
    "generator",
    "student",
    "network",
    "denoiser",
    "unet",
    "dit",
    "ema",
    "transformer",
    "pipeline",
    "pipe",
    "processor",
)
"""What wrappers (torch.compile, FSDP, activation checkpointing, DDP, PEFT), trainers and containers add to a name."""

_WORDS = "|".join(sorted(_WRAPPERS, key=len, reverse=True))
_WRAPPER = re.compile(rf"(?:^|(?<=_))(?:{_WORDS})(?:_|$)")
_WRAPPER_SEGMENT = re.compile(rf"_*(?:{_WORDS})_*")
_TOWER_SEGMENT = re.compile(r"(?:^|(?<=\.))(audio|video)(?=\.)")
_TOWER_WORDS = re.compile(
    r"(?:^|(?<=_))(audio|video|vid)_"
    r"(?:(?:model|tower|block|branch|stream|backbone|transformer|dit|expert|module|net)(?:_|$)"
    r"|(?=blocks_\d)|(?<=blocks_audio_|blocks_video_)(?=\d))"
)
"""How a tower is named inside a flat name; `audio_cross_attn`, for example, is a layer of other models."""
_TOWER_FRONT = re.compile(r"^(audio|video|vid)_(?=.)")

_DIFFUSERS: Sequence[tuple[re.Pattern[str], str]] = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^(blocks\.\d+)\.self_attn\.([qkv])$", r"\1.attn1.to_\2"),
        (r"^(blocks\.\d+)\.cross_attn\.([qkv])$", r"\1.attn2.to_\2"),
        (r"^(blocks\.\d+)\.self_attn\.o$", r"\1.attn1.to_out.0"),
        (r"^(blocks\.\d+)\.cross_attn\.o$", r"\1.attn2.to_out.0"),
        (r"^(blocks\.\d+)\.self_attn\.(norm_[qk])$", r"\1.attn1.\2"),
        (r"^(blocks\.\d+)\.cross_attn\.(\w+)$", r"\1.attn2.\2"),
        (r"^(blocks\.\d+)\.ffn\.0$", r"\1.ffn.net.0.proj"),
        (r"^(blocks\.\d+)\.ffn\.2$", r"\1.ffn.net.2"),
        # diffusers numbers the norms in order of use; its other two have no parameters.
        (r"^(blocks\.\d+)\.norm3$", r"\1.norm2"),
        (r"^(blocks\.\d+)\.modulation$", r"\1.scale_shift_table"),
        (r"^time_embedding\.0$", "condition_embedder.time_embedder.linear_1"),
        (r"^time_embedding\.2$", "condition_embedder.time_embedder.linear_2"),
        (r"^text_embedding\.0$", "condition_embedder.text_embedder.linear_1"),
        (r"^text_embedding\.2$", "condition_embedder.text_embedder.linear_2"),
        (r"^time_projection\.1$", "condition_embedder.time_proj"),
        (r"^head\.head$", "proj_out"),
        (r"^head\.modulation$", "scale_shift_table"),
    )
]
"""Official Wan name -> diffusers' (scripts/convert_wan_to_diffusers.py in the diffusers repository)."""

_OTHER_PARTS: Sequence[tuple[re.Pattern[str], str]] = [
    (re.compile(pattern), reason)
    for pattern, reason in (
        (
            r"(^|[._])(k_img|v_img|norm_k_img|img_emb|add_[kv]_proj|norm_added_[kq]|image_embedder)([._]|$)",
            "belongs to Wan models with a CLIP image encoder; this model has no such layer",
        ),
        (r"^(lora_te\d?_|text_encoder|te\d?_)", "belongs to a text encoder, which adapters do not change here"),
        (r"^transformer_2[._]", "belongs to the second expert of Wan 2.2 14B; this model has only one"),
        (r"(^|[._])vace_", "belongs to VACE models; this model has no such layer"),
    )
]


class NameMap:
    """Finds the parameters of one model by the names of layers in adapter files.

    Args:
        shapes: shape of every parameter of the transformer by its official name.
    """

    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        self.shapes = dict(shapes)
        self._front = ""
        self._weights: dict[str, str] = {}
        self._biases: dict[str, str] = {}
        self._modulations: dict[str, str] = {}
        for parameter in self.shapes:
            self._add_parameter(parameter)

    def after(self, front: str) -> "NameMap":
        """Return a map for names that have this text in front."""
        other = copy(self)
        other._front = front
        return other

    def weight(self, layer: str) -> str | None:
        """Return the official name of a layer's weight (or modulation), for any known spelling of the layer."""
        return self._find(self._weights, layer)

    def bias(self, layer: str) -> str | None:
        """Return the official name of a layer's bias."""
        return self._find(self._biases, layer)

    def modulation(self, owner: str) -> str | None:
        """Return the official name of the modulation of a block or of the head."""
        return self._find(self._modulations, owner) or self._find(self._weights, owner)

    def any_parameter(self, layer: str) -> str | None:
        """Return the official name of some parameter of a layer; None if the model has no such layer."""
        return self.weight(layer) or self.bias(layer) or self.modulation(layer)

    def linear_layers(self, tower: Tower) -> int:
        """Return the number of linear layers of a tower; 366 in the published model."""
        return sum(tower_of(name) == tower and is_linear(name, shape) for name, shape in self.shapes.items())

    def _find(self, table: Mapping[str, str], layer: str) -> str | None:
        return table.get(_spelling(layer.removeprefix(self._front)))

    def _add_parameter(self, parameter: str) -> None:
        owner, _, kind = parameter.rpartition(".")
        if kind == "bias":
            self._add(self._biases, owner, parameter)
        elif kind == "modulation":
            # A block's modulation is a module with one parameter of that name; the head's is itself a parameter.
            layer = owner if owner.endswith(".modulation") else parameter
            self._add(self._weights, layer, parameter)
            self._add(self._weights, parameter, parameter)
            self._add(self._modulations, layer.removesuffix(".modulation"), parameter)
        else:
            self._add(self._weights, owner, parameter)

    def _add(self, table: dict[str, str], layer: str, parameter: str) -> None:
        for alias in _aliases(layer):
            if table.setdefault(alias, parameter) != parameter:
                raise ValueError(f"{alias} could mean {table[alias]} or {parameter}")


def tower_of(parameter: str) -> Tower:
    """Return the tower that an official parameter name belongs to."""
    return "audio" if parameter.startswith("audio_model.") else "video"


def is_linear(parameter: str, shape: Shape) -> bool:
    """Whether a parameter is the weight of a linear layer."""
    return parameter.endswith(".weight") and len(shape) == 2


def plain_name(layer: str) -> str:
    """Return a dotted name without the words that wrappers and trainers add."""
    return ".".join(part for part in layer.split(".") if not is_wrapper(part))


def is_wrapper(part: str) -> bool:
    """Whether a part of a dotted name only comes from a wrapper or trainer."""
    return _WRAPPER_SEGMENT.fullmatch(part) is not None


def is_foreign(layer: str) -> bool:
    """Whether a name belongs to a part that only other models have."""
    return any(pattern.search(plain_name(layer)) for pattern, _ in _OTHER_PARTS)


def why_unknown(layer: str) -> str:
    """Return why a layer is not used, for people."""
    name = plain_name(layer)
    return next((reason for pattern, reason in _OTHER_PARTS if pattern.search(name)), "names no layer of this model")


def fronts(layers: Sequence[str]) -> Iterator[str]:
    """Yield the texts that stand in front of all these names and may be an unknown prefix, the shortest first."""
    first = min(layers, key=len, default="")
    # Names come from files: only the first boundaries are tried.
    ends = [match.end() for match in re.finditer(r"[._]+", first[:200])][:8]
    for front in (first[:end] for end in ends):
        if not all(layer.startswith(front) for layer in layers):
            return
        yield front


def _spelling(name: str) -> str:
    """Return the form in which names are compared: flat, without wrappers, `audio_` in front of the audio tower's."""
    flat = "_".join(filter(None, re.split(r"[._]+", _TOWER_SEGMENT.sub(r"\1_model", name))))
    found = {match[1] for match in _TOWER_WORDS.finditer(flat)}
    flat = _WRAPPER.sub("", _TOWER_WORDS.sub("", flat)).strip("_")
    if not found and (front := _TOWER_FRONT.match(flat)):
        found, flat = {front[1]}, flat[front.end() :]
    if "audio" not in found:
        return flat
    # A name with both towers is none of this model.
    return f"audio_{flat}" if len(found) == 1 else ""


def _aliases(layer: str) -> Iterator[str]:
    tower, _, name = layer.partition(".")
    names = [name, *(alias for pattern, new in _DIFFUSERS if (alias := pattern.sub(new, name)) != name)]
    for alias in names:
        yield _spelling(f"{tower}.{alias}")
