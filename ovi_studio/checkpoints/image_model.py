"""Image models on this machine: text-to-image pipelines of diffusers, as folders with a `model_index.json`.

A model is named by its folder, or by its name: a folder below the checkpoint directory (where `download` puts the files
of `owner/name` on the hub), or a repository in the hub's own cache, where the official code keeps its image model.
Only safetensors are read, and a model that brings code of its own is refused. Imports no torch and no diffusers.
"""

import hashlib
import importlib.util
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ovi_studio.checkpoints.download import DownloadPlan, MissingFile, plan_files
from ovi_studio.checkpoints.file_check import damage, holds, read_header
from ovi_studio.checkpoints.hashes import BackgroundHash
from ovi_studio.core.drawing import OFFICIAL_MODEL
from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import HubFile

INDEX = "model_index.json"
WEIGHTS = ".safetensors"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".msgpack", ".h5")
OFFICIAL_SIZE = 33_700_000_000
"""Bytes of the official model, rounded: transformer, two text encoders and VAE."""
OFFICIAL_LICENCE = "FLUX.1 [dev] Non-Commercial License; gated"
HALF_PRECISION = "fp16"
"""The name of files in half precision, `<file>.fp16.safetensors`; read where there are no others."""
_LIBRARIES = {"diffusers", "transformers", "tokenizers"}
_TEXTS = (".json", ".txt", ".model", ".jinja")
_MAX_INDEX = 2**20
_PART = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_FILE = re.compile(r"\w[\w.-]*", re.ASCII)
"""Names of parts and of their files: folders and files that a model names lie in its own folder."""
NAME = re.compile(r"[\w-][\w.-]*(?:/[\w-][\w.-]*)?", re.ASCII)
"""A folder below the checkpoint directory, or a repository of the hub."""


@dataclass(frozen=True)
class ImageModel:
    """A complete image model."""

    name: str
    """As it was asked for, but without the path of a folder, which may reveal something about the person."""
    folder: Path
    pipeline: str
    """Name of the class in diffusers."""
    parameters: Mapping[str, int]
    """Number of parameters of each part that has weights."""
    files: tuple[Path, ...]
    """Everything that is read."""
    half_precision: bool
    """Whether files in half precision are read."""

    def hashes(self) -> "FilesHash":
        """Start to hash the files."""
        return FilesHash(self)


class FilesHash:
    """The hash of all files of a model, computed in the background."""

    def __init__(self, model: ImageModel) -> None:
        self._model = model
        self._hashes = BackgroundHash(model.files)

    def result(self) -> str:
        """SHA-256 in hex of all names with their files' SHA-256; waits, and raises `OSError` for unreadable files."""
        digests = self._hashes.result()
        lines = sorted(f"{path.relative_to(self._model.folder).as_posix()} {digests[path]}\n" for path in digests)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def require_image_model(name: str, checkpoint_directory: Path) -> ImageModel:
    """The image model of this name or folder; raises `JobError` that says how to get it, or what is wrong with it."""
    folder = find_folder(name, checkpoint_directory)
    if folder is None:
        raise JobError(_missing(name, checkpoint_directory))
    return inspect(folder, name)


def find_folder(name: str, checkpoint_directory: Path) -> Path | None:
    """The folder of an image model: the one that `name` is, one below the checkpoints, or one in the hub's cache."""
    path = Path(name).expanduser()
    candidates = [path] if path.is_absolute() else [checkpoint_directory / name] if is_name(name) else []
    if is_name(name) and "/" in name:
        # With an HTTP client, and most clips need no image model.
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        with suppress(HFValidationError):
            cached = try_to_load_from_cache(name, INDEX)
            candidates += [Path(cached).parent] if isinstance(cached, str) else []
    return next((folder for folder in candidates if holds(folder.is_dir)), None)


def is_name(name: str) -> bool:
    """Whether this is a name and no path; only the owner of a studio may name other folders."""
    return NAME.fullmatch(name) is not None


def image_models(checkpoint_directory: Path) -> list[str]:
    """Names of the folders below the checkpoints that may be image models, the official one first if it is here."""
    found = []
    for pattern in (f"*/{INDEX}", f"*/*/{INDEX}"):
        with suppress(OSError):
            for index in sorted(checkpoint_directory.glob(pattern)):
                # The published video codec is also kept as a clone of a pipeline, which makes videos.
                if not _class_of(index).startswith("Wan"):
                    found.append(index.parent.relative_to(checkpoint_directory).as_posix())
    official = [OFFICIAL_MODEL] if find_folder(OFFICIAL_MODEL, checkpoint_directory) else []
    return list(dict.fromkeys([*official, *filter(is_name, found)]))


def inspect(folder: Path, name: str) -> ImageModel:
    """The image model in a folder; raises `JobError` that says what is wrong with it. Reads headers only."""
    title = Path(name).name if Path(name).expanduser().is_absolute() else name
    index = _read_index(folder, title)
    _refuse_code(folder, index, title)
    parts = [part for part, entry in index.items() if _is_part(entry)]
    files, parameters, half = [folder / INDEX], {}, False
    for part in parts:
        own = _files_of_part(folder / part, f"{title}, {part}")
        files += own
        weights = [path for path in own if path.suffix == WEIGHTS]
        if weights:
            parameters[part] = sum(map(_parameters, weights))
            half = half or all(_is_half(path) for path in weights)
    if not parameters:
        raise JobError(f"The image model {title} has no weights; download it again.")
    return ImageModel(title, folder, str(index["_class_name"]), parameters, tuple(files), half)


def chosen_files(files: Iterable[str], parts: Iterable[str]) -> list[str]:
    """Which files of a repository, as paths below its root, a pipeline with these parts reads.

    Not the single files at the root that hold the same weights for other programs, nor other versions of the weights:
    those in half precision count where there are no others.
    """
    known = set(parts)
    split = ((path, *path.partition("/")) for path in files)
    own = [path for path, part, _, name in split if part in known and _FILE.fullmatch(name)]
    whole = {path.partition("/")[0] for path in own if _is_whole(Path(path))}
    kept = [path for path in own if Path(path).suffix in _TEXTS]
    for path in own:
        if _is_whole(Path(path)) or (_is_half(Path(path)) and path.partition("/")[0] not in whole):
            kept.append(path)
    return [INDEX, *sorted(kept)]


def plan_image_model(name: str, checkpoint_directory: Path) -> DownloadPlan:
    """Ask the hub for the files of an image model that are missing; raises `JobError`, also if it cannot be used."""
    from ovi_studio.checkpoints import hub  # with an HTTP client

    if not is_name(name) or "/" not in name:
        raise JobError(f"{name} is not the name of a repository on the hub, such as {OFFICIAL_MODEL}.")
    listing = hub.list_files(name)
    if INDEX not in listing.files:
        raise JobError(f"{name} is no pipeline of diffusers: it has no {INDEX}; choose a repository of one.")
    index = _checked_index(hub.read_json(name, INDEX), name)
    parts = [part for part, entry in index.items() if _is_part(entry)]
    code = [path for path in listing.files if path.endswith(".py") and path.partition("/")[0] in parts]
    if code or not isinstance(index["_class_name"], str):
        raise JobError(_code_needed(name))
    chosen = chosen_files(listing.files, parts)
    if not any(path.endswith(WEIGHTS) for path in chosen):
        raise JobError(
            f"{name} has no safetensors files in its parts; pickles can run code and are never loaded, so choose "
            "another model."
        )
    sources = [HubFile(name, path, name, listing.files[path], listing.licence) for path in chosen]
    found = ((source, checkpoint_directory / source.location) for source in sources)
    missing = [MissingFile(source, target, reason) for source, target in found if (reason := damage(target))]
    return plan_files(missing, checkpoint_directory)


def _read_index(folder: Path, title: str) -> dict[str, Any]:
    path = folder / INDEX
    try:
        if not path.is_file():
            raise JobError(
                f"{title} is no pipeline of diffusers: it has no {INDEX}; name a folder or repository of one."
            )
        with path.open("rb") as file:
            found = json.loads(file.read(_MAX_INDEX))
    except OSError as error:
        raise JobError(f"The image model {title} cannot be read ({error.strerror}); check its permissions.") from error
    except (ValueError, RecursionError) as error:
        raise JobError(f"The {INDEX} of the image model {title} is not valid JSON; download it again.") from error
    return _checked_index(found, title)


def _checked_index(found: Any, title: str) -> dict[str, Any]:
    if (
        not isinstance(found, dict)
        or "_class_name" not in found
        or not all(_PART.fullmatch(part) for part, entry in found.items() if _is_part(entry))
    ):
        raise JobError(f"The {INDEX} of the image model {title} names no pipeline; download it again.")
    return found


def _class_of(index: Path) -> str:
    with suppress(OSError, ValueError, AttributeError, RecursionError):
        return str(json.loads(index.read_text(encoding="utf-8")).get("_class_name", ""))
    return ""


def _is_part(entry: Any) -> bool:
    """Whether an entry of the index is a part with files: a pair of a library and a class."""
    return isinstance(entry, list) and len(entry) == 2 and entry[0] is not None


def _refuse_code(folder: Path, index: Mapping[str, Any], title: str) -> None:
    """Raise `JobError` for a pipeline or part that is not of a known library: its code would come with the model."""
    foreign = not isinstance(index["_class_name"], str) or any(
        _is_part(entry) and (folder / part).is_dir() and not _is_known(entry[0]) for part, entry in index.items()
    )
    if foreign or any(_has_code(folder / part) for part, entry in index.items() if _is_part(entry)):
        raise JobError(_code_needed(title))


def _code_needed(title: str) -> str:
    return (
        f"The image model {title} needs code of its own (trust_remote_code), which is never run; "
        "choose one that consists of parts of diffusers and transformers."
    )


def _is_known(library: Any) -> bool:
    return isinstance(library, str) and (library in _LIBRARIES or library in _pipeline_modules())


@cache
def _pipeline_modules() -> frozenset[str]:
    """The modules of diffusers' own pipelines, which an index may name as the library of a part."""
    found = importlib.util.find_spec("diffusers")
    folders = (found.submodule_search_locations if found else None) or []
    return frozenset(path.name for folder in folders for path in (Path(folder) / "pipelines").iterdir())


def _has_code(part: Path) -> bool:
    if next(part.glob("*.py"), None) is not None:
        return True
    with suppress(OSError, ValueError, RecursionError):
        config = json.loads((part / "config.json").read_text(encoding="utf-8"))
        return isinstance(config, dict) and "auto_map" in config
    return False


def _files_of_part(part: Path, title: str) -> list[Path]:
    """The files that are read of a part; raises `JobError` if one is missing, damaged or a pickle."""
    if not part.is_dir():
        raise JobError(f"The image model is not complete ({title} is missing); download it again.")
    paths = sorted(path for path in part.iterdir() if path.is_file())
    weights = [path for path in paths if path.suffix == WEIGHTS]
    whole = [path for path in weights if _is_whole(path)]
    if not weights and (pickle := next((path for path in paths if path.suffix in PICKLES), None)):
        raise JobError(
            f"{title}: {pickle.name} is a pickle, which can run code and is never loaded; choose a model with "
            "safetensors files."
        )
    chosen = whole or [path for path in weights if _is_half(path)]
    for path in chosen:
        if reason := damage(path):
            raise JobError(f"{title}: {path.name} {reason}; download it again.")
    missing = [name for name in _announced(paths, half=not whole) if not (part / name).is_file()]
    if missing:
        raise JobError(f"{title}: {missing[0]} is missing; download it again.")
    others = [path for path in paths if path.suffix in _TEXTS]
    return [*chosen, *others]


def _announced(paths: list[Path], *, half: bool) -> Iterator[str]:
    """The names of the files over which the weights of a part are spread, if they are."""
    for path in paths:
        if f"{WEIGHTS}.index." in path.name and (f".{HALF_PRECISION}." in path.name) == half:
            with suppress(OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
                yield from sorted({Path(name).name for name in json.loads(path.read_bytes())["weight_map"].values()})


def _is_whole(path: Path) -> bool:
    """Whether these are weights of the usual version; others have a word of their own, such as `.non_ema`."""
    return path.suffix == WEIGHTS and "." not in path.stem


def _is_half(path: Path) -> bool:
    return path.suffix == WEIGHTS and (f".{HALF_PRECISION}." in path.name or f".{HALF_PRECISION}-" in path.name)


def _parameters(path: Path) -> int:
    return sum(math.prod(entry["shape"]) for entry in read_header(path).values())


def _missing(name: str, checkpoint_directory: Path) -> str:
    if not is_name(name) or "/" not in name:
        return f"There is no image model {Path(name).name}; name a folder that exists, or a repository on the hub."
    about = f" ({OFFICIAL_SIZE / 1e9:.0f} GB, {OFFICIAL_LICENCE})" if name == OFFICIAL_MODEL else ""
    directory = f'"{checkpoint_directory}"' if " " in str(checkpoint_directory) else checkpoint_directory
    return (
        f"The image model {name} is not on this machine; `python -m ovi_studio download {name} --ckpt-dir {directory}` "
        f"fetches it{about}."
    )
