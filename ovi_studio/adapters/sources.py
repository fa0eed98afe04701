"""Where the adapters of a preset can be downloaded, and which of them are missing. Imports no torch.

An adapter is stored below the adapter folder under the name in the preset, so the name is checked here: it cannot lead
out of the folder, and names a safetensors file.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ovi_studio.adapters.library import AdapterLibrary
from ovi_studio.checkpoints.download import DownloadPlan, DownloadProgress, MissingFile, fetch_files, plan_files
from ovi_studio.core.adapter_stack import Stack
from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import HubFile

_NAME = re.compile(r"(?:[\w-][\w.-]*/)*[\w-][\w.-]*\.safetensors", re.ASCII)
"""A path below the adapter folder that is valid on every system."""
_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)


@dataclass(frozen=True)
class AdapterSource:
    """One adapter on the hub."""

    repository: str
    path: str
    """Path of the file in the repository."""
    licence: str
    size: int = 0
    """Bytes; 0: unknown until the hub is asked."""
    sha256: str | None = None
    """Hash of the file that the preset was made for; None: any file that the hub has."""

    def to_dict(self) -> dict[str, Any]:
        """Return the source as it is written in a preset's file."""
        return {name: value for name, value in asdict(self).items() if value}


@dataclass(frozen=True)
class MissingAdapters:
    """Why adapters cannot be used, and which of them can be downloaded."""

    reason: str
    sources: Mapping[str, AdapterSource]
    """Sources by the adapter's name; empty if nothing can be downloaded."""

    @property
    def size(self) -> int:
        """Bytes of all sources, as far as known."""
        return sum(source.size for source in self.sources.values())

    @property
    def licences(self) -> str:
        return ", ".join(sorted({source.licence for source in self.sources.values()}))


def parse_source(values: Any, name: str) -> AdapterSource:
    """Parse the source of the adapter `name` from a mapping of texts; raises `JobError`."""
    known = {field.name for field in fields(AdapterSource)}
    if (
        not isinstance(values, Mapping)
        or not values.keys() <= known
        or not {"repository", "path", "licence"} <= values.keys()
    ):
        raise JobError(
            f"The source of adapter {name} needs repository, path and licence; size and sha256 are optional."
        )
    texts = {key: str(value).strip() for key, value in values.items()}
    size, sha256 = texts.pop("size", "0"), texts.pop("sha256", None)
    if (
        not _NAME.fullmatch(name)
        or not _NAME.fullmatch(texts["path"])
        or not _REPOSITORY.fullmatch(texts["repository"])
    ):
        raise JobError(
            f"Adapter {name} or its source is not a plain path of a .safetensors file in a repository of the hub."
        )
    if not size.isascii() or not size.isdigit() or len(size) > 15:
        raise JobError(f"The size of adapter {name} must be a number of bytes.")
    if sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise JobError(f"The sha256 of adapter {name} must be 64 hex digits.")
    if not 0 < len(texts["licence"]) <= 200:
        raise JobError(f"The licence of adapter {name} must be a short text.")
    return AdapterSource(**texts, size=int(size), sha256=sha256)


def find_missing(stack: Stack, sources: Mapping[str, AdapterSource], library: AdapterLibrary) -> MissingAdapters | None:
    """Return which adapters of a stack cannot be used now; None if all can."""
    reasons, missing = [], {}
    for use in stack:
        try:
            library.find(use.name)
        except JobError as error:
            reasons.append(str(error))
            # An existing file that cannot be used is not silently replaced.
            if use.name in sources and not (library.directory / use.name).exists():
                missing[use.name] = sources[use.name]
    return MissingAdapters(" ".join(reasons), missing) if reasons else None


def plan_adapters(sources: Mapping[str, AdapterSource], library: AdapterLibrary) -> DownloadPlan:
    """Ask the hub for these adapters; raises `JobError`, also if a file is not the one that the preset was made for."""
    missing = [
        MissingFile(
            HubFile(source.repository, source.path, "", source.size, source.licence, source.sha256),
            library.directory / name,
            "is not there",
        )
        for name, source in sources.items()
    ]
    plan = plan_files(missing, library.directory)
    for file, source in zip(plan.files, sources.values(), strict=True):
        if source.sha256 not in (None, file.sha256):
            raise JobError(
                f"{Path(source.path).name} in {source.repository} is not the file that this preset was made for: its "
                f"SHA-256 is {file.sha256}, not {source.sha256}; download it by hand if you want to use it."
            )
    return plan


def fetch_adapters(plan: DownloadPlan, report: Callable[[DownloadProgress], None]) -> None:
    """Download adapters; resumes partial downloads. Raises `JobError`, and what `report` raises."""
    try:
        fetch_files(plan, report)
    except JobError as error:
        # The message is written for checkpoints, which have another folder option.
        raise JobError(str(error).replace("--ckpt-dir", "--lora-dir")) from error
