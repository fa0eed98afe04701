"""Optimizers and learning rates: optionally Muon for the matrices of the blocks, AdamW for everything else."""

import math
import re
from collections.abc import Mapping

import torch
from torch import nn

from ovi_studio.training.muon import Muon
from ovi_studio.training.settings import TrainSettings

_BLOCK_MATRIX = re.compile(r"\.blocks\.\d+\..*\.weight$")
_FINAL_RATE = 0.01
"""Fraction of the full learning rate at the end of a run."""


def build_optimizers(
    parameters: Mapping[str, nn.Parameter], settings: TrainSettings
) -> list[tuple[torch.optim.Optimizer, float]]:
    """Return the optimizers, each with its full learning rate, for parameters under their official names."""
    muon_rate = settings.muon_learning_rate or 0.0
    matrices = {
        name: parameter
        for name, parameter in parameters.items()
        if muon_rate and parameter.dim() == 2 and _BLOCK_MATRIX.search(name)
    }
    others = [parameter for name, parameter in parameters.items() if name not in matrices]
    optimizers: list[tuple[torch.optim.Optimizer, float]] = []
    if matrices:
        muon = Muon(matrices.values(), lr=muon_rate, weight_decay=settings.weight_decay)
        optimizers.append((muon, muon_rate))
    if others:
        adam = torch.optim.AdamW(
            others, lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=settings.weight_decay, fused=True
        )
        optimizers.append((adam, settings.learning_rate))
    return optimizers


def rate_factor(step: int, progress: float, settings: TrainSettings) -> float:
    """Return the factor of the learning rates.

    Args:
        step: counted from 0.
        progress: fraction of the run that is done, 0 to 1.
    """
    warmup = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    if settings.schedule == "cosine":
        shape = (1 + math.cos(math.pi * progress)) / 2
    else:
        shape = min(1.0, (1 - progress) / settings.decay) if settings.decay else 1.0
    return warmup * max(_FINAL_RATE, shape)
