"""A comparison with a reference number: where it computes, how wrong it may be, and what its files hold."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ovi_studio.checkpoints.load import assign


@dataclass(frozen=True)
class Place:
    """Where the models compute, and in which number format; the audio codec is float32 everywhere."""

    device: torch.device
    dtype: torch.dtype = torch.float32

    @property
    def draws_as_the_reference(self) -> bool:
        """Random numbers depend on the device and on the number format."""
        return self == CPU


CPU = Place(torch.device("cpu"))


@dataclass(frozen=True)
class Case:
    """One comparison; `error` computes the relative L2 error, or the number of wrong answers where equality counts."""

    name: str
    tolerance: float
    error: Callable[[], float]


def relative_error(result: Tensor, expected: Tensor) -> float:
    """Relative L2 error; a wrong shape or a value that is no number is infinitely wrong."""
    if result.shape != expected.shape or not torch.isfinite(result).all():
        return float("inf")
    result, expected = result.cpu(), expected.cpu()
    difference = torch.linalg.vector_norm(result.double() - expected.double())
    return (difference / torch.linalg.vector_norm(expected.double())).item()


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def read_metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata() or {}


def filled(model: nn.Module, tensors: dict[str, Tensor], place: Place) -> Any:
    return assign(model, {name: tensor.to(place.device, place.dtype) for name, tensor in tensors.items()})


def load_case(path: Path, place: Place) -> dict[str, Tensor]:
    return {name: tensor.to(place.device) for name, tensor in load_file(path).items()}
