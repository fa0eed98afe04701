"""`Machine`: what a machine of the farm is and can make, and how it differs from the head. Imports no torch or ray.

Which variants fit is decided by the machine itself, from the memory that its GPU has free; all clips of a variant have
about the same size. Two machines make the same clips only from the same files, so a variant counts as the same if the
hashes of all its files are the same.
"""

import hashlib
import importlib.metadata
import platform
import re
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from ovi_studio import __version__
from ovi_studio.capacity.layouts import Gpus, plan_sharding
from ovi_studio.capacity.memory import Demand
from ovi_studio.checkpoints.hashes import file_sha256
from ovi_studio.checkpoints.layout import Inventory, complete_variants, take_inventory
from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import Variant

FACTS_KEY = b"ovi_studio"
"""Key of the head's facts in Ray's key-value store."""
NAME_LABEL = "ovi-studio/name"
CARD_LABEL = "ovi-studio/card"
MEMORY_LABEL = "ovi-studio/memory-gib"
RANKS_LABEL = "ovi-studio/gpus-a-clip"
VARIANT_LABEL = "ovi-studio/variant."
_NOT_IN_LABELS = re.compile(r"[^A-Za-z0-9_.-]+")
_MAX_LABEL = 63
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,58}[A-Za-z0-9])?")


@dataclass(frozen=True)
class Versions:
    """What must be the same on every machine: Ray refuses other ones, and other versions of ours make other clips."""

    studio: str
    python: str
    ray: str

    @classmethod
    def here(cls) -> "Versions":
        """Return the versions on this machine; ray must be installed."""
        return cls(__version__, platform.python_version(), importlib.metadata.version("ray"))


@dataclass(frozen=True)
class Machine:
    """A machine of the farm, as it describes itself."""

    name: str
    versions: Versions
    card: str = "CPU"
    memory: float = 0.0
    """GiB of the GPU; 0 without one."""
    ranks: int = 1
    """How many GPUs share a clip, each with a process; without a GPU, how many processes."""
    variants: Mapping[str, str] = field(default_factory=dict)
    """Hash of the files of each complete variant that fits into the memory."""

    def to_json(self) -> dict[str, Any]:
        """Return the description in JSON's types."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Machine":
        """Inverse of `to_json`."""
        return cls(**{**values, "versions": Versions(**values["versions"])})

    def labels(self) -> dict[str, str]:
        """Return the labels of the machine's node in Ray, for whoever looks at the cluster with Ray's tools."""
        labels = {NAME_LABEL: self.name, CARD_LABEL: self.card, MEMORY_LABEL: f"{self.memory:.0f}"}
        labels[RANKS_LABEL] = str(self.ranks)
        labels |= {VARIANT_LABEL + name: digest[:16] for name, digest in self.variants.items()}
        return {_label(key): _label(value) for key, value in labels.items()}


def host_name() -> str:
    """Return a name for this machine that can be a label and part of a file's name."""
    return _label(socket.gethostname()).replace(".", "-") or "machine"


def require_name(name: str) -> str:
    """Return a name that a person chose; raises `JobError` if it cannot be a label and part of a file's name."""
    if not _NAME.fullmatch(name):
        raise JobError(f"A machine cannot be called {name!r}; use up to 60 letters and digits, with - or _ between.")
    return name


def fingerprints(checkpoints: Path) -> dict[str, str]:
    """Return the hash of the files of every complete variant; reads files whose hashes are not cached."""
    return {
        variant.name: fingerprint(take_inventory(variant, checkpoints)) for variant in complete_variants(checkpoints)
    }


def fingerprint(inventory: Inventory) -> str:
    """Return one hash of all files of a variant, whatever they are called."""
    digests = sorted(file_sha256(path) for paths in inventory.files.values() for path in paths)
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()


def differences(head: Machine, here: Machine) -> list[str]:
    """Return a sentence for each thing that keeps a machine out of the farm, with the command that mends it."""
    found = version_differences(head.versions, here.versions)
    if not found and not here.variants:
        found.append(
            "No variant is complete here and fits into the memory; download one with `./launch.sh download VARIANT`."
        )
    return found + [
        f"The files of {name} are not those of the head; fetch them again with `./launch.sh download {name}`."
        for name in sorted(head.variants.keys() & here.variants.keys())
        if head.variants[name] != here.variants[name]
    ]


def version_differences(theirs: Versions, ours: Versions) -> list[str]:
    """Return those of `differences` that are known before a machine is looked at."""
    found = []
    if ours.studio != theirs.studio:
        found.append(
            f"Ovi Studio is {ours.studio} here and {theirs.studio} on the head; bring both to the same version, for "
            f"example with `git pull`."
        )
    if ours.python != theirs.python:
        found.append(
            f"Python is {ours.python} here and {theirs.python} on the head; delete .venv and set it up with the other "
            f"one, for example with `PYTHON=python{theirs.python} ./launch.sh`."
        )
    if ours.ray != theirs.ray:
        found.append(
            f"Ray is {ours.ray} here and {theirs.ray} on the head; install it with "
            f"`.venv/bin/python -m pip install ray=={theirs.ray}`."
        )
    return found


def describe(name: str, checkpoints: Path, device_name: str = "auto", ranks: int = 1) -> Machine:
    """Describe this machine. Imports torch unless the device is the processor."""
    if device_name == "cpu":
        return Machine(name, Versions.here(), ranks=ranks, variants=fingerprints(checkpoints))
    import torch

    from ovi_studio.models.device import compute_device, usable_memory
    from ovi_studio.runtime.placement import choose_plan

    device = compute_device(device_name)
    if device.type != "cuda":
        return describe(name, checkpoints, "cpu", ranks)
    card = torch.cuda.get_device_name(device)
    # The GPUs of a machine that share clips are alike.
    free = min(usable_memory(compute_device(f"cuda:{index}")) for index in range(ranks)) if ranks > 1 else 0.0

    def fits(variant: Variant) -> bool:
        plan = choose_plan(variant, device)
        if ranks == 1:
            return plan.least_free <= usable_memory(device)
        return plan_sharding(Demand.largest(variant, plan.weights), Gpus.named(ranks, free, card)) is not None

    complete = complete_variants(checkpoints)
    return Machine(
        name,
        Versions.here(),
        card,
        torch.cuda.get_device_properties(device).total_memory / 2**30,
        ranks,
        {v.name: fingerprint(take_inventory(v, checkpoints)) for v in complete if fits(v)},
    )


def free_memory(device_name: str = "auto") -> tuple[float, float]:
    """Return the GiB that are free, and all: of the GPU, or of the machine without one. Imports torch for a GPU."""
    if device_name != "cpu":
        import torch

        from ovi_studio.models.device import compute_device

        device = compute_device(device_name)
        if device.type == "cuda":
            free, total = torch.cuda.mem_get_info(device)
            return free / 2**30, total / 2**30
    memory = psutil.virtual_memory()
    return memory.available / 2**30, memory.total / 2**30


def _label(text: str) -> str:
    prefix, slash, name = text.rpartition("/")
    return prefix + slash + _NOT_IN_LABELS.sub("-", name)[:_MAX_LABEL].strip("-_.")
