import numpy as np
import torch
from diffusers import AutoencoderKLWan

from gpu.check import Findings, Rig, require
from gpu.device import GIB, measured
from gpu.random_models import random_video_vae
from gpu.steps import relative_error
from ovi_studio.capacity.memory import Demand, decode_bytes
from ovi_studio.core.variants import published_variants
from ovi_studio.distributed.decode import FrameAssembler, decode_pieces
from ovi_studio.distributed.ranks import ALONE
from ovi_studio.models.causal_layers import make_channels_last
from ovi_studio.models.device import kernel_search
from ovi_studio.models.video_vae import decode_whole, to_bytes

_BOUND = 2e-2
"""Maximum relative error: tiles agree with whole frames up to rounding, and bfloat16 is rounded after every layer."""


@torch.no_grad()
def check(rig: Rig, found: Findings) -> None:
    """Whole frames and tiles decode to the same full-size clip, as in a clip; seconds and peak memory."""
    vae = random_video_vae(rig, rig.device)
    make_channels_last(vae)
    frames, side, size = (2, 4, 2) if rig.small else (31, 44, 30)
    generator = torch.Generator(rig.device).manual_seed(0)
    latents = torch.randn(vae.config.z_dim, frames, side, side, device=rig.device, generator=generator)
    variant = published_variants()["720x720_5s"]
    clip = Demand.of(variant, (side * variant.latent_stride, side * variant.latent_stride))
    whole = to_bytes(decode_whole(vae, latents))
    shape = (4 * (frames - 1) + 1, 16 * side, 16 * side, 3)
    require(whole.shape == shape, f"The shape is {whole.shape}.")
    for name, tile in (("whole frames", None), (f"tiles of {size}", size)):
        _decode(vae, latents, tile)  # cuDNN's search
        with measured(rig.device) as work:
            decoded = _decode(vae, latents, tile)
        work.note(found, name)
        if not rig.small:
            found.note(f"{name}, planned", decode_bytes(clip, tile) / GIB, "GiB")
        error = relative_error(torch.from_numpy(decoded).float(), torch.from_numpy(whole).float())
        found.note(f"{name}, difference", error)
        require(error <= _BOUND, f"With {name} the clip differs by {error:.1e}; the bound is {_BOUND:.0e}.")


def _decode(vae: AutoencoderKLWan, latents: torch.Tensor, tile: int | None) -> np.ndarray:
    """Decode piece by piece, as a clip is: frames travel to the host while the next ones are computed."""
    assembler = FrameAssembler(*(side * vae.config.scale_factor_spatial for side in latents.shape[2:]))
    with kernel_search(latents.device):
        pieces = [assembler.add(piece) for (piece,) in decode_pieces(vae, latents, tile, ALONE)]
    return np.concatenate([frames for frames in pieces if frames is not None])
