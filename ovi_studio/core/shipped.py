"""Paths of the presets and LoRA files that ship with the program: next to the package in a repository, inside the
package when it was installed from a wheel (see `pyproject.toml`).
"""

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
_PACKED = _PACKAGE / "_shipped"

PRESETS = (_PACKED if _PACKED.is_dir() else _PACKAGE.parent) / "presets"
"""The presets; templates and wildcards are in subfolders."""
ADAPTERS = _PACKED / "loras" if _PACKED.is_dir() else None
"""LoRA files; None in a repository, where `loras/` contains them together with the user's own."""
