"""The tensors of a file, by the layer that they name.

Imports no torch: everything here is known from the header.
"""

import re
from collections.abc import Sequence

from ovi_studio.adapters.formats.group import Group
from ovi_studio.adapters.formats.registry import PEFT_NAMES, SUFFIXES
from ovi_studio.adapters.header import Header

_PEFT_NAME = re.compile(
    rf"\.({'|'.join(sorted({name.partition('.')[0] for name in PEFT_NAMES}))})"
    r"(?:\.(?!(?:weight|bias)$)(\w+))?(?:\.(?:weight|(bias)))?$"
)
"""The end of a tensor's name by PEFT, with or without the adapter's name in it (`lora_A.default.weight`)."""


def grouped(header: Header) -> tuple[Sequence[Group], list[str]]:
    """Tensors by layer, and those whose name ends in nothing that is known."""
    groups: dict[tuple[str, str], Group] = {}
    unknown = []
    for key, info in header.tensors.items():
        parsed = _parse_key(key)
        if parsed is None:
            unknown.append(key)
            continue
        layer, adapter, role = parsed
        group = groups.setdefault((layer, adapter), Group(layer))
        if role in group.roles:
            unknown.append(key)
            continue
        group.roles[role] = key
        group.infos[role] = info
    return list(groups.values()), unknown


def _parse_key(key: str) -> tuple[str, str, str] | None:
    """Layer, PEFT's adapter name (mostly empty) and role of a tensor's name."""
    if found := _PEFT_NAME.search(key):
        role = PEFT_NAMES.get(f"{found[1]}.bias" if found[3] else found[1])
        return None if role is None else (key[: found.start()], found[2] or "", role)
    # A suffix never holds another one as its own end, so the first that fits is the one.
    suffix = next((suffix for suffix in SUFFIXES if key.endswith(suffix)), None)
    return None if suffix is None else (key.removesuffix(suffix), "", SUFFIXES[suffix])
