"""The scale of an adapter's changes, as far as a file states it beside its tensors. Imports no torch.

It comes from `adapter_config.json` of a PEFT folder, else from the metadata in the file's header: diffusers'
`lora_adapter_metadata` (PEFT's configuration as JSON, with the component before each name), plain names such as
`lora_alpha`, or kohya's `ss_network_alpha`. An alpha among the tensors counts more than any of them.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ovi_studio.adapters.header import Header
from ovi_studio.adapters.names import is_foreign, plain_name
from ovi_studio.core.errors import JobError

MAX_CONFIG = 1_000_000
"""Bytes of `adapter_config.json`."""
_PEFT_ALPHA = 8.0
"""PEFT's own default of `lora_alpha`."""
_BASE_CHANGING = ("pissa", "olora", "corda", "loftq")
"""PEFT initialisations that move a part of the base weights into the adapter."""
_AGAIN = "download or copy it again"

_FIELDS: Mapping[str, str] = {
    **dict.fromkeys(("lora_alpha", "alpha", "network_alpha"), "lora_alpha"),
    **dict.fromkeys(("r", "rank", "lora_rank", "lora_r", "network_dim"), "r"),
    **dict.fromkeys(("use_rslora", "rslora", "use_rs_lora", "rs_lora"), "use_rslora"),
    **dict.fromkeys(("use_dora", "dora"), "use_dora"),
    **{name: name for name in ("alpha_pattern", "rank_pattern", "peft_type", "init_lora_weights")},
}
"""Names in headers -> PEFT's names."""
_JSON_KEYS = ("lora_adapter_metadata", "adapter_config", "peft_config", "lora_config")
"""Keys of a header whose value is a configuration as JSON; only the first one must be readable."""
_NOT_GIVEN = frozenset({"", "none", "null"})
_TRUE, _FALSE = frozenset({"true", "1", "yes"}), frozenset({"false", "0", "no"})


@dataclass(frozen=True)
class PeftConfig:
    """How PEFT scales LoRA pairs."""

    alpha: float
    alpha_pattern: Mapping[str, float]
    """Layer name, or the end of a layer name -> alpha."""
    rslora: bool
    dora: bool

    def scale(self, layer: str, rank: int) -> float:
        """Return alpha / rank, or alpha / sqrt(rank) with rsLoRA (arXiv 2312.03732).

        The rank is that of the tensors themselves, which `r` and `rank_pattern` only repeat.
        """
        alpha = next((alpha for pattern, alpha in self.alpha_pattern.items() if _names(pattern, layer)), self.alpha)
        return alpha / (math.sqrt(rank) if self.rslora else rank)


@dataclass(frozen=True)
class Scaling:
    """What a file states about the scale of its layers."""

    file_name: str
    configs: Mapping[str, PeftConfig]
    """Front of layer names, such as `transformer` -> its configuration; "" is for all other layers."""

    @property
    def dora(self) -> bool:
        """Whether the changes are said to have magnitudes."""
        return any(config.dora for config in self.configs.values())

    def scale(self, layer: str, rank: int) -> float:
        """Return the scale of a layer without an alpha of its own; 1 if the file states none.

        Raises `JobError` if the file states several and not which one is meant.
        """
        config = self._config(layer)
        return 1.0 if config is None else config.scale(plain_name(layer), rank)

    def unused_patterns(self, layers: Iterable[str]) -> list[str]:
        """Return the alpha patterns that name none of these layers."""
        names = [plain_name(layer) for layer in layers]
        patterns = [pattern for config in self.configs.values() for pattern in config.alpha_pattern]
        return [pattern for pattern in patterns if not any(_names(pattern, name) for name in names)]

    def _config(self, layer: str) -> PeftConfig | None:
        fronts = [front for front in self.configs if front and f".{front}." in f".{layer}"]
        if fronts or "" in self.configs:
            return self.configs[max(fronts, key=len, default="")]
        others = [config for front, config in self.configs.items() if not is_foreign(front)]
        if any(config != others[0] for config in others):
            raise JobError(
                f"{self.file_name} states different scales for {', '.join(self.configs)[:200]}, but its layers have "
                "none of these names; save it again."
            )
        return others[0] if others else None


def find_scaling(file_name: str, header: Header, config: PeftConfig | None = None) -> Scaling:
    """Find what a file states about its scale; `config` is that of a PEFT folder.

    Raises `JobError` if the header states something that is not a number, or that needs more than the tensors.
    """
    if config is not None:
        return Scaling(file_name, {"": config})
    label = f"The header of {file_name}"
    try:
        return Scaling(file_name, _header_configs(label, header))
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise JobError(f"{file_name} has a header whose scale is unreadable ({error}); save it again.") from error


def read_peft_config(path: Path) -> PeftConfig:
    """Read the part of `adapter_config.json` that defines how tensors are used.

    Raises `JobError` if it is unreadable, or needs something that is not in the tensors.
    """
    label = f"{path.parent.name}/{path.name}"
    try:
        if path.stat().st_size > MAX_CONFIG:
            raise JobError(f"{label} is too large for a PEFT configuration; {_AGAIN}.")
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise TypeError("not an object")
        return _peft_config(label, values)
    except OSError as error:
        raise JobError(f"{label} cannot be read ({error.strerror}); check that it is still there.") from error
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise JobError(f"{label} is not a readable PEFT configuration; {_AGAIN}.") from error


def _header_configs(label: str, header: Header) -> dict[str, PeftConfig]:
    metadata = header.metadata
    for key in _JSON_KEYS:
        if key in metadata and (values := _json_object(metadata[key], required=key == _JSON_KEYS[0])):
            by_front = _by_front(values)
            # PEFT's defaults apply to what a configuration leaves out, if it is one.
            configs = {front: fields for front, fields in by_front.items() if fields.keys() - {"rank_pattern"}}
            if configs:
                return {front: _peft_config(label, fields) for front, fields in configs.items()}
    configs = _by_front({key: _parsed(value) for key, value in metadata.items()})
    for front, fields in configs.items():
        if fields.keys() & {"use_rslora", "alpha_pattern"} and "lora_alpha" not in fields:
            name = next(name for name in ("use_rslora", "alpha_pattern") if name in fields)
            raise ValueError(f"{name} without lora_alpha" + (f" for {front[:60]}" if front else ""))
    found = {front: _peft_config(label, fields) for front, fields in configs.items() if "lora_alpha" in fields}
    return found or _kohya_config(label, header)


def _kohya_config(label: str, header: Header) -> dict[str, PeftConfig]:
    """Return the scale of a file of kohya's trainers without alphas among its tensors."""
    metadata = header.metadata
    # The trainer of this app, and the conversions of kohya's trainers to PEFT's names, fold alpha into the tensors and
    # keep the metadata (musubi-tuner, convert_lora.py).
    converted = "ss_network_module" in metadata and any(".lora_A." in name for name in header.tensors)
    alpha = _parsed(metadata.get("ss_network_alpha", ""))
    if alpha is None or converted or "ovi_studio.layers" in metadata:
        return {}
    return {"": _peft_config(label, {"lora_alpha": alpha})}


def _by_front(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Sort the fields of a configuration by what stands before their names, or above them."""
    found: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        front, _, name = key.rpartition(".")
        inner = value if name not in _FIELDS and isinstance(value, dict) else {name: value}
        for field, content in inner.items():
            if field in _FIELDS and content is not None:
                place = key if inner is value else front
                found.setdefault("" if place == "modelspec" else place, {}).setdefault(_FIELDS[field], content)
    return found


def _peft_config(label: str, values: Mapping[str, Any]) -> PeftConfig:
    """Parse a configuration with PEFT's names; raises `JobError`, or `ValueError` (`TypeError`) for a wrong value."""
    _refuse_other_methods(label, values)
    given = values.get("alpha_pattern") or {}
    if not isinstance(given, dict):
        raise TypeError("alpha_pattern is not an object")
    patterns = {_pattern(label, key): _finite(value) for key, value in given.items()}
    alpha = values.get("lora_alpha")
    return PeftConfig(
        _PEFT_ALPHA if alpha is None else _finite(alpha),
        patterns,
        _flag(values.get("use_rslora")),
        _flag(values.get("use_dora")),
    )


def _refuse_other_methods(label: str, values: Mapping[str, Any]) -> None:
    method = str(values.get("peft_type") or "LORA").upper().removeprefix("PEFTTYPE.")
    if method != "LORA":
        raise JobError(f"{label} uses the PEFT method {method[:20]}; only LORA can be used.")
    start = values.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_BASE_CHANGING):
        raise JobError(
            f"{label} was initialised with {start[:20]}, which changes the base weights as well; "
            "save it again with PEFT's conversion to a plain LoRA (path_initial_model_for_weight_conversion)."
        )


def _pattern(label: str, key: str) -> str:
    """Return a plain layer name; PEFT would use it as a regular expression, which an untrusted file must not supply."""
    name = key.removesuffix("$").replace("\\.", ".")
    if not re.fullmatch(r"\^?[\w.]+", name):
        raise JobError(f"{label} has the alpha_pattern {key[:60]!r}; write it out as plain layer names.")
    return name


def _names(pattern: str, layer: str) -> bool:
    """Whether a pattern names a layer, or, unless it starts with ^, the end of its name."""
    whole = pattern.startswith("^")
    name = plain_name(pattern.removeprefix("^"))
    return layer == name or (not whole and layer.endswith("." + name))


def _json_object(text: str, *, required: bool) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        if required:
            raise ValueError("no JSON object")
        return {}
    return values


def _parsed(text: str) -> Any:
    """Parse a plain value of a header: an object if it is one in JSON, else the text; None if it says nothing."""
    if text.strip().lower() in _NOT_GIVEN:
        return None
    try:
        return json.loads(text) if text.lstrip().startswith("{") else text.strip()
    except (ValueError, RecursionError):
        return text


def _flag(value: Any) -> bool:
    text = str(value or False).lower()
    if text not in _TRUE | _FALSE:
        raise ValueError(f"{text[:40]!r} is neither true nor false")
    return text in _TRUE


def _finite(value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (ValueError, TypeError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"alpha {str(value)[:40]!r} is not a number")
    return number
