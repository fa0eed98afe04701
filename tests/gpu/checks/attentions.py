import torch
from torch import Tensor

from gpu.check import Findings, Rig, require
from gpu.device import measured
from gpu.steps import relative_error
from ovi_studio.capacity.tiers import AUTO
from ovi_studio.core.errors import is_out_of_memory
from ovi_studio.models.attention import attention, choose_backend
from ovi_studio.models.attention_kernels import KERNELS, NATIVE
from ovi_studio.models.attention_timing import MEASURED_TOKENS
from ovi_studio.runtime.attention_choice import choose_attention, exact_kernels

_HEADS = (4, 128)
_BOUNDS = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
"""Maximum relative difference of two kernels: each rounds its weights and its result to its own number format."""


def check(rig: Rig, found: Findings) -> None:
    """Exact attention kernels agree on clips of 5 and 10 s, with the seconds of each, and `auto` takes one of them."""
    names = exact_kernels(rig.device, rig.dtype)
    for tokens in (64, 96) if rig.small else MEASURED_TOKENS:
        generator = torch.Generator(rig.device).manual_seed(tokens)
        query, key, value = (
            torch.randn(1, tokens, *_HEADS, device=rig.device, dtype=rig.dtype, generator=generator) for _ in range(3)
        )
        expected = attention(query, key, value, choose_backend(NATIVE, rig.device, rig.dtype))
        for name in names:
            result = _attend(rig, found, name, (query, key, value))
            if result is not None:
                error = relative_error(result, expected)
                bound = _BOUNDS[rig.dtype]
                require(
                    error <= bound, f"Attention {name!r} differs by {error:.1e} from 'native'; {bound:.0e} is allowed."
                )
        chosen = choose_attention(AUTO, tokens, rig.device, rig.dtype)
        require(KERNELS[chosen].exact, f"`auto` chose {chosen!r}, which is not exact.")
        found.note(f"auto takes {chosen} for {tokens} tokens", 1)


def _attend(rig: Rig, found: Findings, name: str, inputs: tuple[Tensor, Tensor, Tensor]) -> Tensor | None:
    """Compute twice and note the second one's time; None if the kernel fails, which `auto` then does not use."""
    backend = choose_backend(name, rig.device, rig.dtype)
    try:
        attention(*inputs, backend)
    except Exception as error:  # whatever a package that does not fit raises
        if is_out_of_memory(error) or name == NATIVE:
            raise
        found.leave_out(f"attention {name}", (str(error).strip().splitlines() or [type(error).__name__])[0])
        return None
    with measured(rig.device) as work:
        result = attention(*inputs, backend)
    found.note(f"{name}, {inputs[0].shape[1]} tokens", work.seconds, "s")
    return result
