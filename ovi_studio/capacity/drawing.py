"""Where the parts of an image model are while it draws: the memory that each placement needs. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from ovi_studio.capacity.budget import RESERVE
from ovi_studio.core.errors import JobError

BYTES_PER_WEIGHT = 2
"""bfloat16."""
BYTES_PER_PIXEL = 1_540
"""GPU memory next to the weights, by the tensors that live at once: the decoder of FLUX, SDXL and SD needs 1.61 GB for
1024x1024 pixels in bfloat16, the transformer of FLUX 0.39 GB (docs/first-frame.md)."""
STREAMED_BYTES = 0.7e9
"""Weights that are on the GPU at a time while layers are streamed: the largest layer is 0.11 GB in FLUX, and more in
text encoders with large vocabularies."""


class DrawingPlacement(StrEnum):
    """Where the parts of an image model are, from the fastest to the smallest."""

    WHOLE = "whole"
    """All on the device."""
    PART_BY_PART = "part by part"
    """Each on the device while it computes, and in host memory otherwise."""
    STREAMED = "streamed"
    """In host memory; layers are copied to the device one by one."""


@dataclass(frozen=True)
class DrawingDemand:
    """What an image model takes."""

    parts: Mapping[str, int]
    """Bytes of each part's weights."""
    pixels: int
    """Of the picture."""

    @classmethod
    def of(cls, parameters: Mapping[str, int], pixels: int) -> "DrawingDemand":
        """The demand of a model with these numbers of parameters."""
        return cls({name: BYTES_PER_WEIGHT * count for name, count in parameters.items()}, pixels)

    @property
    def host_bytes(self) -> int:
        """Host memory for the weights, unless all are on the device."""
        return sum(self.parts.values())

    def device_bytes(self, placement: DrawingPlacement) -> float:
        """Device memory in a placement, without the reserve."""
        weights = {
            DrawingPlacement.WHOLE: sum(self.parts.values()),
            DrawingPlacement.PART_BY_PART: max(self.parts.values()),
            DrawingPlacement.STREAMED: min(STREAMED_BYTES, max(self.parts.values())),
        }
        return weights[placement] + BYTES_PER_PIXEL * self.pixels


def choose_drawing_placement(demand: DrawingDemand, free: float) -> DrawingPlacement | None:
    """The fastest placement that fits into `free` bytes of a GPU; None if none does."""
    return next((one for one in DrawingPlacement if demand.device_bytes(one) + RESERVE <= free), None)


def too_large(name: str, demand: DrawingDemand, free: float) -> JobError:
    """The sentence for a model that fits in no placement."""
    needed = demand.device_bytes(DrawingPlacement.STREAMED) + RESERVE
    return JobError(
        f"The image model {name} needs {needed / 1e9:.1f} GB of GPU memory to draw a first frame, but "
        f"{free / 1e9:.1f} GB are free; close other programs, choose a smaller image model, or give a picture."
    )
