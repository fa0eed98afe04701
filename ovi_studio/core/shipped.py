"""Where the presets and LoRA files lie that come along with the program: beside the package in a repository, inside it
where it was installed from a wheel (`pyproject.toml` puts them there).
"""

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
_PACKED = _PACKAGE / "_shipped"

PRESETS = (_PACKED if _PACKED.is_dir() else _PACKAGE.parent) / "presets"
"""Presets, and below them templates and wildcards."""
ADAPTERS = _PACKED / "loras" if _PACKED.is_dir() else None
"""LoRA files; None in a repository, whose `loras/` holds them beside people's own."""
