"""Small files that people may edit: read up to a size limit, written so that a power cut leaves the old or new file.

Every scalar in YAML is read as text: `16:9` is not a number of seconds and `no` is not a boolean; the code that reads a
setting knows its type. Anchors and aliases are rejected, so that a small file cannot expand to a large one.
"""

import errno
import os
import re
import shutil
import unicodedata
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from ovi_studio.core.errors import JobError

MAX_FILE_SIZE = 2**18
"""Bytes of a YAML file."""
_MAX_SLUG_LENGTH = 40
_WINDOWS_DEVICES = re.compile(r"con|prn|aux|nul|(com|lpt)\d", re.IGNORECASE)


class _Loader(yaml.BaseLoader):
    """Reads every scalar as text; rejects aliases and repeated keys."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise yaml.YAMLError(f"line {event.start_mark.line + 1}: anchors and aliases are not supported")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        found = super().construct_mapping(node, deep)
        if len(found) != len(node.value):
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: a key is repeated")
        return found


def is_storable(name: str) -> bool:
    """Whether a file name is valid Unicode; others cannot be stored, sent or shown, and are never written here."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_yaml(path: Path) -> Any:
    """The content as dicts, lists and strings; raises `JobError` that names the file."""
    try:
        if path.exists() and not path.is_file():  # to open a pipe could block forever
            raise JobError(f"{path.name} is not a regular file; replace it.")
        with path.open("rb") as file:
            data = file.read(MAX_FILE_SIZE + 1)
    except OSError as error:
        raise JobError(f"{path.name} cannot be read ({error.strerror}); check the file and its permissions.") from error
    return parse_yaml(data, path.name)


def parse_yaml(text: str | bytes, name: str) -> Any:
    """The content of a YAML file's text as dicts, lists and strings; raises `JobError` that calls the file `name`."""
    try:
        data = text if isinstance(text, bytes) else text.encode()
        if len(data) > MAX_FILE_SIZE:
            raise JobError(f"{name} is larger than {MAX_FILE_SIZE // 1024} kB; split it.")
        return yaml.load(data.decode("utf-8-sig"), _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise JobError(f"{name} is not valid YAML ({reason}); correct it.") from error


def write_yaml(path: Path, value: Any) -> None:
    """Replace a YAML file; raises `JobError`, also if it would be too large to be read back."""
    data = yaml.safe_dump(value, allow_unicode=True, sort_keys=False, width=110).encode()
    if len(data) > MAX_FILE_SIZE:
        raise JobError(f"{path.name} would be larger than {MAX_FILE_SIZE // 1024} kB; delete something from it first.")
    write_atomically(path, data)


@contextmanager
def folder_errors(folder: Path) -> Iterator[None]:
    """Turn an `OSError` about `folder` into a `JobError` with advice."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            sentence = f"There is no space left in {folder}; free up some space."
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            sentence = f"The folder {folder} is not writable; change its permissions or choose another folder."
        else:
            sentence = f"The folder {folder} cannot be used ({error.strerror}); check the disk or choose another one."
        raise JobError(sentence) from error


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file by way of its part file; it is on the disk when this returns. Raises `JobError`."""
    with folder_errors(path.parent):
        _write(path, [data])


def write_new(path: Path, blocks: Iterable[bytes]) -> None:
    """Write a file by way of its part file; raises `JobError` if there is one of this name, which is never replaced."""
    with folder_errors(path.parent):
        if os.path.lexists(path):
            raise JobError(f"{path} exists and is never replaced; delete it, or choose another folder.")
        _write(path, blocks)


def _write(path: Path, blocks: Iterable[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_path(path)
    try:
        with part.open("wb") as file:
            file.writelines(blocks)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def move_file(source: Path, target: Path) -> None:
    """Rename, or copy to another disk; the target appears only when it is complete."""
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy = part_path(target).with_name(part_path(target).name + ".copy")
        try:
            shutil.copy2(source, copy)
            copy.replace(target)
        finally:
            copy.unlink(missing_ok=True)
        source.unlink()


def part_path(path: Path) -> Path:
    """The name under which a file is written until it is complete."""
    return path.with_name(path.name + ".part")


def is_windows_device(stem: str) -> bool:
    """Whether Windows reserves this name for a device, such as `con` or `lpt1`."""
    return _WINDOWS_DEVICES.fullmatch(stem) is not None


def slug(title: str) -> str:
    """A safe file name of lower-case ASCII letters, digits and hyphens; empty if the title contains none of them."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    found = re.sub(r"[^a-z0-9]+", "-", plain)[:_MAX_SLUG_LENGTH].strip("-")
    return f"{found}-own" if is_windows_device(found) else found
