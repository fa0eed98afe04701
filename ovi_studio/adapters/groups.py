"""Groups the tensors of a file by the layer that they name.

Imports no torch: the header alone is enough.
"""

import re
from collections.abc import Mapping, Sequence

from ovi_studio.adapters.formats.layer_tensors import LayerTensors, multiplier
from ovi_studio.adapters.formats.registry import PEFT_NAMES, SUFFIXES
from ovi_studio.adapters.header import Header
from ovi_studio.adapters.names import is_wrapper, plain_name

_PEFT_NAME = re.compile(
    rf"\.({'|'.join(sorted({name.partition('.')[0] for name in PEFT_NAMES}))})"
    r"(?:\.(?!(?:weight|bias)$)(\w+))?(?:\.(?:weight|(bias)))?$"
)
"""The end of a tensor name in PEFT's style, with or without the adapter's name (`lora_A.default.weight`)."""

_MULTIPLIERS = (".scale_weight", ".weight_scale")
"""ComfyUI's endings for the number by which an fp8 tensor is multiplied, in place of `.weight`."""


def group_by_layer(header: Header) -> tuple[Sequence[LayerTensors], list[str]]:
    """Return the tensors by layer, and the names of tensors with an unknown ending."""
    groups: dict[tuple[str, str], LayerTensors] = {}
    unknown = []
    for key, info in header.tensors.items():
        parsed = _parse_key(key)
        if parsed is None:
            unknown.append(key)
            continue
        layer, adapter, role = parsed
        group = groups.setdefault((layer, adapter), LayerTensors(layer))
        if role in group.roles:
            unknown.append(key)
            continue
        group.roles[role] = key
        group.infos[role] = info
    return _merged(groups), unknown


def _merged(groups: Mapping[tuple[str, str], LayerTensors]) -> list[LayerTensors]:
    """Return the groups, with the tensors of a layer that name no adapter in that of its only adapter."""
    named: dict[str, list[LayerTensors]] = {}
    for (layer, adapter), group in groups.items():
        if adapter:
            named.setdefault(layer, []).append(group)
    found = []
    for (layer, adapter), group in groups.items():
        target = named.get(layer, [])
        if adapter or len(target) != 1 or group.roles.keys() & target[0].roles.keys():
            found.append(group)
        else:
            target[0].roles.update(group.roles)
            target[0].infos.update(group.infos)
    return found


def _parse_key(key: str) -> tuple[str, str, str] | None:
    """Parse a tensor name into layer, PEFT's adapter name (mostly empty) and role."""
    if ending := next((ending for ending in _MULTIPLIERS if key.endswith(ending)), None):
        base = key.removesuffix(ending)
        parsed = _parse_tensor(f"{base}.weight") or _parse_tensor(base)
        return None if parsed is None else (*parsed[:2], multiplier(parsed[2]))
    return _parse_tensor(key)


def _parse_tensor(key: str) -> tuple[str, str, str] | None:
    # A wrapper's word may also be behind the layer's name (`lora_A._orig_mod.weight`).
    return _parse_ending(key) or _parse_ending(plain_name(key))


def _parse_ending(key: str) -> tuple[str, str, str] | None:
    if found := _PEFT_NAME.search(key):
        role = PEFT_NAMES.get(f"{found[1]}.bias" if found[3] else found[1])
        adapter = "" if found[2] is None or is_wrapper(found[2]) else found[2]
        return None if role is None else (key[: found.start()], adapter, role)
    # No suffix ends with another one, so the first match is the only one.
    suffix = next((suffix for suffix in SUFFIXES if key.endswith(suffix)), None)
    return None if suffix is None else (key.removesuffix(suffix), "", SUFFIXES[suffix])
