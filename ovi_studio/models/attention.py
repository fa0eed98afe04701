"""Attention kernels by name, through diffusers' dispatcher. PyTorch's own is the default; the others if installed."""

from diffusers.models.attention_dispatch import (
    AttentionBackendName,
    _check_attention_backend_requirements,
    dispatch_attention_fn,
)
from torch import Tensor

from ovi_studio.errors import JobError

BACKENDS = {
    "native": AttentionBackendName.NATIVE,
    "flash2": AttentionBackendName.FLASH,
    "flash3": AttentionBackendName._FLASH_3,
    "sage": AttentionBackendName.SAGE,
}
"""Name in Ovi Studio -> name in diffusers."""


def choose_backend(name: str) -> AttentionBackendName:
    """The kernel called `name`; raises `JobError` if it is unknown or its package is not installed."""
    if name not in BACKENDS:
        raise JobError(f"There is no attention called {name!r}; choose one of {', '.join(BACKENDS)}.")
    try:
        _check_attention_backend_requirements(BACKENDS[name])
    except (RuntimeError, ImportError) as error:
        raise JobError(
            f"Attention {name!r} needs a package that is not installed here ({error}); install it or use 'native'."
        ) from error
    return BACKENDS[name]


def attention(query: Tensor, key: Tensor, value: Tensor, backend: AttentionBackendName) -> Tensor:
    """Unmasked attention over (batch, tokens, heads, head_dim)."""
    return dispatch_attention_fn(query, key, value, backend=backend)
