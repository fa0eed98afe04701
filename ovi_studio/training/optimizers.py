"""Which parameters are trained how: Muon for the matrices of the blocks if wanted, AdamW for the rest; their rates."""

import math
import re
from collections.abc import Mapping

import torch
from torch import nn

from ovi_studio.training.muon import Muon
from ovi_studio.training.settings import TrainSettings

_BLOCK_MATRIX = re.compile(r"\.blocks\.\d+\..*\.weight$")
_FINAL_RATE = 0.01
"""Of the full rate, at the end of a run."""


def build_optimizers(
    parameters: Mapping[str, nn.Parameter], settings: TrainSettings
) -> list[tuple[torch.optim.Optimizer, float]]:
    """Optimizers and their full learning rates, for parameters under their official names."""
    by_muon = {
        name: parameter
        for name, parameter in parameters.items()
        if settings.muon_learning_rate and parameter.dim() == 2 and _BLOCK_MATRIX.search(name)
    }
    others = [parameter for name, parameter in parameters.items() if name not in by_muon]
    optimizers: list[tuple[torch.optim.Optimizer, float]] = []
    if by_muon:
        muon = Muon(by_muon.values(), lr=settings.muon_learning_rate, weight_decay=settings.weight_decay)
        optimizers.append((muon, settings.muon_learning_rate))
    if others:
        adam = torch.optim.AdamW(
            others, lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=settings.weight_decay, fused=True
        )
        optimizers.append((adam, settings.learning_rate))
    return optimizers


def rate_factor(step: int, progress: float, settings: TrainSettings) -> float:
    """What the learning rates are multiplied by.

    Args:
        step: counted from 0.
        progress: part of the run that is done, 0 to 1.
    """
    warmup = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    if settings.schedule == "cosine":
        shape = (1 + math.cos(math.pi * progress)) / 2
    else:
        shape = min(1.0, (1 - progress) / settings.decay) if settings.decay else 1.0
    return warmup * max(_FINAL_RATE, shape)
