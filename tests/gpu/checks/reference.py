from collections.abc import Iterator
from pathlib import Path

import torch
from parity import evaluate, find_computing_cases
from parity_case import CPU, Case, Place
from parity_models import forget_models

from gpu.check import Findings, Rig, require
from gpu.device import tf32

REFERENCE = Path(__file__).parents[2] / "reference"
_FLOAT32 = 2e-5
"""Tolerance on a GPU, which sums in another order than the CPU, whose tolerances are up to ten times smaller."""
_BF16 = 4e-2
"""Of a whole clip, whose solver amplifies rounding; the other parts stay below 2.5e-2."""
_IN_BF16 = ("fusion", "video_vae", "text_encoder", "pipeline")
"""Cases that compute in bfloat16; solvers, audio codec and fused adapters always use float32."""


def check(rig: Rig, found: Findings) -> None:
    """Results agree with the official implementation, in float32 without TF32 and in bfloat16."""
    wrong = []
    try:
        with tf32(allowed=False):
            for case, tolerance in _cases(rig.device, torch.float32):
                wrong += _note(found, "float32", case, tolerance)
            for case, _ in _cases(rig.device, torch.bfloat16):
                if case.name.startswith(_IN_BF16):
                    wrong += _note(found, "bf16", case, _BF16)
    finally:
        forget_models()
    require(not wrong, f"These disagree with the official implementation: {', '.join(wrong)}.")


def _cases(device: torch.device, dtype: torch.dtype) -> Iterator[tuple[Case, float]]:
    place = Place(device, dtype)
    for case in find_computing_cases(REFERENCE, place):
        if not case.name.endswith("/report"):  # compares names, not numbers
            yield case, case.tolerance if place == CPU else max(case.tolerance, _FLOAT32)


def _note(found: Findings, dtype: str, case: Case, tolerance: float) -> list[str]:
    """Note the largest error of each group of cases; returns a description of the case if its error is too large."""
    error, _ = evaluate(case)
    group = f"{case.name.partition('/')[0].partition('.')[0]}, {dtype}"
    largest = found.figures.get(group)
    if largest is None or not error <= largest.value:
        found.note(group, error)
    return [] if error <= tolerance else [f"{case.name} in {dtype} (error {error:.1e}, bound {tolerance:.0e})"]
