"""Maps layer names in the styles of different trainers to the official parameter names. Imports no torch.

A flat name (`lora_unet_blocks_0_cross_attn_k_fusion`) cannot be split at its underscores. So names are not parsed:
all spellings of each of the model's own names are generated once and looked up. Bare Wan names mean the video tower,
since both towers have the same shapes and only a name can distinguish them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from ovi_studio.core.towers import Tower

Shape = tuple[int, ...]

_DOTTED_PREFIXES = (
    "base_model.model.",
    "model.diffusion_model.",
    "diffusion_model.",
    "transformer.",
    "pipe.dit.",
    "dit.",
    "module.",
    "_orig_mod.",
)
_FLAT_PREFIXES = ("lora_unet__", "lora_unet_", "lora_transformer_", "lycoris_")

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
        self._weights: dict[str, str] = {}
        self._biases: dict[str, str] = {}
        self._modulations: dict[str, str] = {}
        for parameter in self.shapes:
            self._add_parameter(parameter)

    def weight(self, layer: str) -> str | None:
        """Return the official name of a layer's weight (or modulation), for any known spelling of the layer."""
        return self._find(self._weights, layer)

    def bias(self, layer: str) -> str | None:
        """Return the official name of a layer's bias."""
        return self._find(self._biases, layer)

    def modulation(self, owner: str) -> str | None:
        """Return the official name of the modulation of a block or of the head."""
        return self._find(self._modulations, owner) or self._find(self._weights, owner)

    def linear_layers(self, tower: Tower) -> int:
        """Return the number of linear layers of a tower; 366 in the published model."""
        return sum(tower_of(name) == tower and is_linear(name, shape) for name, shape in self.shapes.items())

    def _find(self, table: Mapping[str, str], layer: str) -> str | None:
        return next((table[name] for name in _without_prefixes(layer) if name in table), None)

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
    """Return the layer's name without the prefixes that trainers add."""
    return list(_without_prefixes(layer))[-1]


def why_unknown(layer: str) -> str:
    """Return why a layer is not used, for people."""
    name = plain_name(layer)
    return next((reason for pattern, reason in _OTHER_PARTS if pattern.search(name)), "names no layer of this model")


def _without_prefixes(layer: str) -> Iterator[str]:
    """Yield the name as it is, and after removing each known prefix."""
    yield layer
    # No known prefix is nested deeper; bounded, since names come from files.
    for _ in range(4):
        prefix = next((prefix for prefix in (*_DOTTED_PREFIXES, *_FLAT_PREFIXES) if layer.startswith(prefix)), None)
        if prefix is None:
            return
        layer = layer.removeprefix(prefix)
        yield layer


def _aliases(layer: str) -> Iterator[str]:
    tower, _, name = layer.partition(".")
    names = [name, *(alias for pattern, new in _DIFFUSERS if (alias := pattern.sub(new, name)) != name)]
    for alias in names:
        for full in (alias, f"{tower}.{alias}") if tower == "video_model" else (f"{tower}.{alias}",):
            yield full
            yield full.replace(".", "_")
