"""Which published model to download on a machine that has none, and whether it can run there. Imports no torch."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ovi_studio.capacity.host import host_memory
from ovi_studio.checkpoints.download import missing_files
from ovi_studio.checkpoints.layout import take_inventory
from ovi_studio.core.variants import Variant, published_variants
from ovi_studio.services.doctor import assess
from ovi_studio.services.gpu_memory import gpu_memory
from ovi_studio.services.gpu_probe import ProbedGpu

_ORDER = ("960x960_5s", "960x960_10s", "720x720_5s", "720x720_5s_fp8")
"""The model for most people first."""


@dataclass(frozen=True)
class ModelOffer:
    """A published model that is not complete on this machine."""

    variant: Variant
    possible: bool
    """Whether this machine should be able to run it."""
    how: str
    """How it would run here, or what is lacking; continues a sentence."""
    size: int
    """Bytes that are missing."""
    licences: tuple[str, ...]
    """Of the missing files."""


def offer_model(checkpoints: Path) -> ModelOffer | None:
    """The first published model that this machine can run, else the one for most people; None if one is complete."""
    inventories = [take_inventory(published_variants()[name], checkpoints) for name in _ORDER]
    if any(inventory.complete for inventory in inventories):
        return None
    gpus, memory = known_gpus(), host_memory().total
    offers = []
    for inventory in inventories:
        possible, how = assess(inventory, gpus, memory)
        files = [missing.source for missing in missing_files(inventory)]
        size, licences = sum(file.size for file in files), _unique(file.licence for file in files)
        offers.append(ModelOffer(inventory.variant, possible, how, size, licences))
    return next((offer for offer in offers if offer.possible), offers[0])


@cache
def known_gpus() -> tuple[ProbedGpu, ...]:
    """The driver's GPUs, asked once: it takes a while, and other programs' memory is not counted anyway."""
    # The capability decides nothing here; the doctor of the System tab asks torch for it.
    return tuple(ProbedGpu(name, total, total - used, (8, 0)) for name, (used, total) in gpu_memory().items())


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(names)))
