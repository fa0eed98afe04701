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
from ovi_studio.models.device import kernel_search
from ovi_studio.models.video_vae import decode_whole, to_bytes

_BOUND = 2e-2
"""Maximum relative error: tiles agree with whole frames up to rounding, and bfloat16 is rounded after every layer."""


@torch.no_grad()
def check(rig: Rig, found: Findings) -> None:
    """Whole frames and tiles decode to the same clip at full size, also piece by piece; seconds and peak memory."""
    vae = random_video_vae(rig, rig.device)
    frames, side, size = (2, 4, 2) if rig.small else (31, 44, 30)
    generator = torch.Generator(rig.device).manual_seed(0)
    latents = torch.randn(vae.config.z_dim, frames, side, side, device=rig.device, generator=generator)
    variant = published_variants()["720x720_5s"]
    clip = Demand.of(variant, (side * variant.latent_stride, side * variant.latent_stride))
    decoded = {}
    for name, tile in (("whole frames", None), (f"tiles of {size}", size)):
        decode_whole(vae, latents[:, :2], tile)  # warm-up
        with measured(rig.device) as work:
            decoded[name] = decode_whole(vae, latents, tile).cpu()
        work.note(found, name)
        if not rig.small:
            found.note(f"{name}, planned", decode_bytes(clip, tile) / GIB, "GiB")
    whole, tiled = decoded.values()
    require(whole.shape == (3, 4 * (frames - 1) + 1, 16 * side, 16 * side), f"The shape is {tuple(whole.shape)}.")
    error = relative_error(tiled, whole)
    found.note("difference", error)
    require(error <= _BOUND, f"Tiles differ from whole frames by {error:.1e}; the bound is {_BOUND:.0e}.")
    for name, tile, expected in (("whole frames", None, whole), (f"tiles of {size}", size, tiled)):
        apart = _bytes_apart(vae, latents, tile, expected)
        require(apart <= 1, f"With {name}, bytes that travel while the next piece is decoded are off by {apart}.")


def _bytes_apart(vae: AutoencoderKLWan, latents: torch.Tensor, tile: int | None, expected: torch.Tensor) -> int:
    """The largest difference between frames that are decoded and copied piece by piece and those of a whole clip."""
    frames = to_bytes(expected).astype(int)
    assembler = FrameAssembler(*frames.shape[1:3])
    apart = count = 0
    with kernel_search(latents.device):
        for (piece,) in decode_pieces(vae, latents, tile, ALONE):
            if (complete := assembler.add(piece)) is not None:
                apart = max(apart, int(abs(complete - frames[count : count + len(complete)]).max()))
                count += len(complete)
    require(count == len(frames), f"{count} of {len(frames)} frames were complete.")
    return apart
