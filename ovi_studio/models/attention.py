"""Attention through diffusers' dispatcher, with the selected kernel (see `attention_kernels`)."""

import torch
from diffusers.models.attention_dispatch import (
    AttentionBackendName,
    _check_attention_backend_requirements,
    dispatch_attention_fn,
)
from torch import Tensor

from ovi_studio.core.errors import JobError
from ovi_studio.models.attention_kernels import KERNELS, Kernel

_BACKENDS = {
    "native": AttentionBackendName.NATIVE,
    "native-flash": AttentionBackendName._NATIVE_FLASH,
    "native-cudnn": AttentionBackendName._NATIVE_CUDNN,
    "flash2": AttentionBackendName.FLASH,
    "flash3": AttentionBackendName._FLASH_3,
    "sage": AttentionBackendName.SAGE,
}
"""Our name of a kernel -> its name in diffusers."""


def choose_backend(name: str, device: torch.device, dtype: torch.dtype = torch.bfloat16) -> AttentionBackendName:
    """Return diffusers' backend for the kernel `name`.

    Raises `JobError` if the kernel is unknown, does not support the device or the number format, or its package is not
    installed.
    """
    if name not in KERNELS:
        raise JobError(f"Unknown attention kernel {name!r}; choose one of {', '.join(KERNELS)}.")
    kernel = KERNELS[name]
    if not _runs_on(kernel, device):
        here = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"
        raise JobError(f"Attention {name!r} needs {kernel.gpus} and does not run on {here}; use 'native'.")
    if dtype == torch.float32 and not kernel.float32:
        raise JobError(f"Attention {name!r} does not compute in float32; use 'native', or --dtype bfloat16.")
    try:
        _check_attention_backend_requirements(_BACKENDS[name])
    except (RuntimeError, ImportError) as error:
        raise JobError(
            f"Attention {name!r} needs a package that is not installed here ({error}); install it or use 'native'."
        ) from error
    return _BACKENDS[name]


def _runs_on(kernel: Kernel, device: torch.device) -> bool:
    if device.type != "cuda":
        return kernel.runs_on(None)
    # AMD GPUs have no compute capability; the AMD builds of these packages check the GPU themselves.
    return torch.version.hip is not None or kernel.runs_on(torch.cuda.get_device_capability(device))


def attention(query: Tensor, key: Tensor, value: Tensor, backend: AttentionBackendName) -> Tensor:
    """Unmasked attention over (batch, tokens, heads, head_dim)."""
    return dispatch_attention_fn(query, key, value, backend=backend)
