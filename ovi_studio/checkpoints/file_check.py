"""What is wrong with a model file, told from its beginning and its size alone. Imports no torch."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

MAX_HEADER = 100_000_000
"""Bytes; the limit of the safetensors format."""


def holds(test: Callable[[], bool]) -> bool:
    """What a test such as `path.is_file` says; False, instead of an error, for a path that cannot be reached."""
    try:
        return test()
    except OSError:  # in a folder that cannot be read, or a link in a circle
        return False


def damage(path: Path, name: str = "") -> str | None:
    """What is wrong with a file, as the end of a sentence; None if its size matches its header.

    `name` is the name that decides about the format, if the file still has another one.
    """
    name = name or path.name
    try:
        if not path.is_file():
            return "is missing"
        if placeholder := _placeholder(path):
            return placeholder
        if name.endswith(".safetensors"):
            return _safetensors_damage(path)
        if name.endswith((".pth", ".pt")):
            return _torch_file_damage(path)
        if name.endswith(".index.json"):
            return _index_damage(path)
        return None if path.stat().st_size else "is empty"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def read_header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file: names with dtype, shape and data_offsets.

    Raises `ValueError` with the end of a sentence if it is not one, and `OSError`.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= length <= min(MAX_HEADER, size - 8):
            raise ValueError("is not a safetensors file (or its header is truncated)")
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            ends = [entry["data_offsets"][1] for entry in header.values()]
            expected = 8 + length + max(ends, default=0)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
            raise ValueError("is not a safetensors file (its header is invalid)") from error
    if size != expected:
        raise ValueError(f"has {size} bytes where its header says {expected}")
    return header


def _placeholder(path: Path) -> str | None:
    """Detect what a git clone without git-lfs, or a download through a login page, leaves in place of a file."""
    with path.open("rb") as file:
        start = file.read(40).lower()
    if start.startswith(b"version https://git-lfs"):
        return "is a git-lfs pointer, not the file itself"
    if start.lstrip().startswith((b"<!doctype", b"<html")):
        return "is a web page, not a model file"
    return None


def _safetensors_damage(path: Path) -> str | None:
    try:
        read_header(path)
    except ValueError as error:
        return str(error)
    return None


def _index_damage(path: Path) -> str | None:
    try:
        names = json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()
        usable = all(isinstance(name, str) for name in names)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        usable = False
    return None if usable else "is not an index of safetensors files"


def _torch_file_damage(path: Path) -> str | None:
    """Files of `torch.save` are zip archives with the directory at the end; older ones are plain pickles."""
    with path.open("rb") as file:
        start = file.read(4)
    if start.startswith(b"PK"):
        return None if zipfile.is_zipfile(path) else "is truncated (its zip directory is missing)"
    return None if start[:1] == b"\x80" else "is not a PyTorch checkpoint file"
