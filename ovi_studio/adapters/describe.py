"""The description of an adapter: title, trigger words, licence, base model, recommended strength.

It comes from the file's own metadata (`modelspec.*`, `ss_*` of kohya's and other trainers) and from a sidecar file
(`<name>.json`, with our keys or those of other apps), which takes precedence. All of it is untrusted: texts are
truncated and stripped of control characters here; the code that shows them must escape them. Imports no torch.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_SIDECAR = 1_000_000
"""Bytes."""
MAX_TEXT = 2000
MAX_WORDS = 32
MAX_WORD = 200
_PREVIEW_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")

_SIDECAR_KEYS: Mapping[str, Sequence[str]] = {
    "title": ("title", "name"),
    "base_model": ("base_model", "baseModel", "sd version"),
    "licence": ("licence", "license"),
    "description": ("description", "notes"),
    "author": ("author", "creator"),
    "trigger_words": ("trigger_words", "trainedWords", "activation text"),
    "strength": ("strength", "preferred weight", "recommended_strength"),
}
"""Our keys first, then those of AUTOMATIC1111 and Civitai."""

_METADATA_KEYS: Mapping[str, Sequence[str]] = {
    "title": ("modelspec.title", "ss_output_name"),
    "base_model": ("ss_base_model_version", "modelspec.architecture", "ss_sd_model_name"),
    "licence": ("modelspec.license", "license"),
    "description": ("modelspec.description", "ss_training_comment"),
    "author": ("modelspec.author",),
    "trigger_words": ("modelspec.trigger_phrase", "trigger_words"),
    "strength": (),
}


@dataclass(frozen=True)
class Description:
    """The description of one adapter; fields are empty if unknown."""

    title: str = ""
    base_model: str = ""
    licence: str = ""
    description: str = ""
    author: str = ""
    trigger_words: tuple[str, ...] = ()
    video_strength: float = 1.0
    audio_strength: float = 1.0


def describe(metadata: Mapping[str, str], sidecar: Mapping[str, Any]) -> Description:
    """Combine metadata and sidecar, each value cleaned."""

    def text(field: str) -> str:
        return next(filter(None, map(clean_text, _values(field, metadata, sidecar))), "")

    words = next(filter(None, map(_words, _values("trigger_words", metadata, sidecar))), ())
    video, audio = next(filter(None, map(_strengths, _values("strength", metadata, sidecar))), (1.0, 1.0))
    texts = {field: text(field) for field in ("title", "base_model", "licence", "description", "author")}
    return Description(**texts, trigger_words=words, video_strength=video, audio_strength=audio)


def read_sidecar(path: Path) -> Mapping[str, Any]:
    """Read the JSON object in a sidecar; empty if it is missing or unreadable, since it is only a description."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_SIDECAR:
            return {}
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def sidecar_path(adapter: Path, suffix: str) -> Path:
    """Return the path of a sidecar: in the same folder, with the adapter's name and another suffix."""
    # A dot in a folder's name does not start a suffix.
    stem = adapter.stem if adapter.suffix.lower() == ".safetensors" else adapter.name
    return adapter.with_name(stem + suffix)


def find_preview(adapter: Path) -> Path | None:
    """Find the preview picture of an adapter."""
    candidates = (sidecar_path(adapter, suffix) for suffix in _PREVIEW_SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def clean_text(value: Any, limit: int = MAX_TEXT) -> str:
    """Return printable text of at most `limit` characters; empty for anything that is not text."""
    if isinstance(value, Mapping):  # Civitai's creator is {"username": ...}
        value = value.get("username")
    if not isinstance(value, str):
        return ""
    # Whitespace collapses to single spaces; unprintable characters could disguise the rest.
    words = "".join(letter if letter.isprintable() else " " for letter in value[: 4 * limit]).split()
    text = " ".join(words)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _values(field: str, metadata: Mapping[str, str], sidecar: Mapping[str, Any]) -> Iterator[Any]:
    yield from (sidecar[key] for key in _SIDECAR_KEYS[field] if key in sidecar)
    yield from (metadata[key] for key in _METADATA_KEYS[field] if key in metadata)


def _words(value: Any) -> tuple[str, ...]:
    """Parse trigger words from a list, or from a comma-separated text."""
    words = value.split(",") if isinstance(value, str) else value
    if not isinstance(words, list):
        return ()
    cleaned = [clean_text(word, MAX_WORD) for word in words[: 4 * MAX_WORDS]]
    return tuple(dict.fromkeys(filter(None, cleaned)))[:MAX_WORDS]


def _strengths(value: Any) -> tuple[float, float] | None:
    """Parse (video, audio) strengths from a number or from {"video": .., "audio": ..}."""
    both = (value.get("video", 1.0), value.get("audio", 1.0)) if isinstance(value, Mapping) else (value, value)
    numbers = [float(number) for number in both if isinstance(number, int | float) and not isinstance(number, bool)]
    # Other apps write 0 for "not given".
    if len(numbers) != 2 or not all(math.isfinite(number) and abs(number) <= 10 for number in numbers):
        return None
    return (numbers[0], numbers[1]) if any(numbers) else None
