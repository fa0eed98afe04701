"""The precision of products: of float32 ones on a GPU, in one setting, and whether a device has narrower ones."""

import torch

from ovi_studio.core.errors import JobError
from ovi_studio.core.weight_formats import Weights

_FP8_UNITS = (8, 9)
"""The oldest compute capability with fp8 units: RTX 40."""


def set_tf32(allowed: bool) -> None:
    """Set whether float32 products may be rounded to TF32 (10 bits of mantissa) on tensor cores.

    Among the models only the audio codec computes in float32. torch's own defaults would round its convolutions but not
    its products; `test-gpu` measures the error of TF32 there.
    """
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def fast_bfloat16(device: torch.device) -> bool:
    """Whether this is a CPU with instructions for products of bfloat16, without which they have to be emulated."""
    return device.type == "cpu" and bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def check_weights(weights: Weights, device: torch.device) -> None:
    """Raise `JobError` if the device cannot multiply weights of this format."""
    if weights is not Weights.FP8_FAST:
        return
    # AMD's fp8 units have formats of their own.
    on_nvidia = device.type == "cuda" and torch.version.hip is None
    if not on_nvidia or torch.cuda.get_device_capability(device) < _FP8_UNITS:
        here = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"
        raise JobError(
            f"{weights} weights need a GPU with fp8 units (RTX 40, H100 or newer) and do not run on {here}; use int8, "
            f"or fp8 with a variant that has an fp8 file."
        )
