"""Which files of a variant are on this machine, and whether they are complete. Reads headers only; imports no torch.

A checkpoint directory of the official code works unchanged. A part may also be stored as safetensors under the same
name (`Wan2.2_VAE.safetensors` for `Wan2.2_VAE.pth`), in shards with an index, or, for the video VAE, text encoder and
tokenizer, as a clone of a diffusers repository directly below the checkpoint directory.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ovi_studio.checkpoints.file_check import damage, holds, read_header
from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import Part, Variant, find_variant, known_variants
from ovi_studio.core.weight_formats import Weights

CHECKPOINT_VARIABLE = "OVI_CKPT_DIR"

_DIFFUSERS_PATHS = {
    Part.VIDEO_VAE: "vae/diffusion_pytorch_model.safetensors",
    Part.TEXT_ENCODER: "text_encoder/model.safetensors",
    Part.TOKENIZER: "tokenizer/tokenizer.json",
}


def default_checkpoint_directory() -> Path:
    """`ckpts/` in the working directory, unless `OVI_CKPT_DIR` is set."""
    return Path(os.environ.get(CHECKPOINT_VARIABLE) or "ckpts")


_OTHER_SIZE = 0.1
"""A file whose size differs from the published one's by more than this fraction has another number format."""


@dataclass(frozen=True)
class Problem:
    """Why a part of a variant cannot be used."""

    part: Part
    path: Path
    reason: str


@dataclass(frozen=True)
class Inventory:
    """The files of a variant on this machine: those of every intact part, and the problems of the others."""

    variant: Variant
    directory: Path
    files: Mapping[Part, tuple[Path, ...]]
    problems: tuple[Problem, ...]

    @property
    def complete(self) -> bool:
        """Whether all parts are intact."""
        return not self.problems

    @property
    def converted(self) -> frozenset[Part]:
        """Of transformer and text encoder those whose files have another number format than the published ones.

        Their tensors are converted while they are loaded, so they are in memory and not in the map of a file.
        """
        formats = {Part.TRANSFORMER: self.variant.weights, Part.TEXT_ENCODER: Weights.BF16}
        return frozenset(part for part, weights in formats.items() if self._has_other_format(part, weights))

    def _has_other_format(self, part: Part, weights: Weights) -> bool:
        paths, published = self.files.get(part, ()), sum(file.size for file in self.variant.files[part])
        # A bundle's are too small to matter.
        if not paths or self.variant.root or not published:
            return False
        if all(path.suffix == ".safetensors" for path in paths):
            return _main_format(paths) != ("F8_E4M3" if weights is Weights.FP8 else "BF16")
        # A file of `torch.save` tells its number format only to torch.
        return abs(sum(path.stat().st_size for path in paths) / published - 1) > _OTHER_SIZE

    @property
    def download_command(self) -> str:
        """The command that downloads the missing files."""
        directory = f'"{self.directory}"' if " " in str(self.directory) else self.directory
        return f"python -m ovi_studio download {self.variant.name} --ckpt-dir {directory}"


def take_inventory(variant: Variant, checkpoint_directory: Path) -> Inventory:
    """Look for every part of `variant` and check its files for damage."""
    root = variant.root or checkpoint_directory
    files: dict[Part, tuple[Path, ...]] = {}
    problems = []
    for part in variant.files:
        found = _locate(variant, part, root)
        broken = next(((path, reason) for path in found if (reason := damage(path))), None)
        if not found:
            official = [root / file.location for file in variant.files[part]]
            missing = next((path for path in official if not holds(path.is_file)), official[0])
            problems.append(Problem(part, missing, damage(missing) or "is missing"))
        elif broken:
            problems.append(Problem(part, *broken))
        else:
            files[part] = found
    return Inventory(variant, checkpoint_directory, files, tuple(problems))


def complete_variants(checkpoint_directory: Path) -> list[Variant]:
    """The variants that are ready to use; published ones first, the embedded one last."""
    candidates = known_variants(checkpoint_directory).values()
    return [variant for variant in candidates if take_inventory(variant, checkpoint_directory).complete]


def require(variant_name: str, checkpoint_directory: Path) -> Inventory:
    """The inventory of a complete variant; raises `JobError` with all problems and the command to solve them."""
    inventory = take_inventory(find_variant(variant_name, checkpoint_directory), checkpoint_directory)
    if inventory.complete:
        return inventory
    findings = "; ".join(f"{problem.part} {problem.path} {problem.reason}" for problem in inventory.problems)
    remedy = (
        f"write the bundle in {inventory.variant.root} again"
        if inventory.variant.root
        else f"`{inventory.download_command}` fetches it"
    )
    raise JobError(f"Variant {variant_name} is not complete: {findings}; {remedy}.")


def default_variant(checkpoint_directory: Path) -> str:
    """The best complete variant; the embedded one if there is no other."""
    complete = complete_variants(checkpoint_directory)
    if not complete:
        raise JobError("Not even the embedded model is complete; install Ovi Studio again.")
    return complete[0].name


def _locate(variant: Variant, part: Part, root: Path) -> tuple[Path, ...]:
    official = [root / file.location for file in variant.files[part]]
    if all(holds(path.is_file) for path in official):
        return tuple(official)
    if len(official) == 1 and (found := as_safetensors(official[0].with_suffix(".safetensors"))):
        return found
    if part in _DIFFUSERS_PATHS:
        for folder in _folders(root):
            if found := as_safetensors(folder / _DIFFUSERS_PATHS[part]):
                return found
    return ()


def as_safetensors(path: Path) -> tuple[Path, ...]:
    """The file itself, or the shards in its index; empty if neither exists."""
    if holds(path.is_file):
        return (path,)
    index = path.with_name(path.name + ".index.json")
    if not holds(index.is_file):
        return ()
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError):
        return (index,)  # `damage` will report that this file is invalid
    # Only the name is used, so that an index cannot refer to files outside its folder.
    return tuple(index.with_name(Path(name).name) for name in names)


def _main_format(paths: tuple[Path, ...]) -> str:
    """The number format, in safetensors' words, in which these files have most of their bytes."""
    sizes: Counter[str] = Counter()
    for path in paths:
        for entry in read_header(path).values():
            start, end = entry["data_offsets"]
            sizes[entry["dtype"]] += end - start
    return max(sizes, key=lambda name: sizes[name], default="")


def _folders(root: Path) -> Iterator[Path]:
    yield root
    with suppress(OSError):  # there is none, or it cannot be read
        yield from sorted(path for path in root.iterdir() if path.is_dir())
