"""From latents to samples and frames. Frames go to a `FrameSink` as they are decoded."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ovi_studio.capacity.budget import usable
from ovi_studio.capacity.memory import fitting_tile
from ovi_studio.checkpoints.load import Models
from ovi_studio.core.clip import Frames, FrameSink, NewFrameSink
from ovi_studio.core.variants import FRAMES_PER_LATENT
from ovi_studio.distributed.decode import FrameAssembler, decode_pieces
from ovi_studio.distributed.ranks import Ranks
from ovi_studio.media.frame_array import FrameArray
from ovi_studio.models.device import available_memory, kernel_search
from ovi_studio.models.video_vae import from_bytes, refine, to_bytes
from ovi_studio.runtime.finite import FiniteCheck
from ovi_studio.runtime.placement import Placement

_REFINED = 0.8
"""What a refiner takes of the time, as a fraction: of the embedded model 0.78 in bfloat16 and 0.86 in float32."""

OnDecoded = Callable[[float], None]
"""Called with the fraction of the picture that is decoded, after every latent frame of every tile; an exception that it
raises ends the run and propagates unchanged."""


class ClipDecoder:
    """The decoders of a pipeline.

    Args:
        tile: the plan's maximum of latent pixels along each side of a tile; None for no limit.
    """

    def __init__(
        self,
        models: Models,
        placement: Placement,
        device: torch.device,
        ranks: Ranks,
        finite: FiniteCheck,
        *,
        tile: int | None,
    ) -> None:
        self._models = models
        self._placement = placement
        self._device = device
        self._ranks = ranks
        self._finite = finite
        self._tile = tile

    def audio(self, latents: Tensor) -> Tensor:
        """Decode audio latents (length, channels) to samples (length * 512,), float32 in [-1, 1], on the host.

        Only the leader of several ranks does so; the others get no samples. Raises `JobError` unless all are finite.
        """
        if not self._ranks.is_leader:
            return torch.empty(0)
        audio_vae, vocoder = self._models.audio_vae, self._models.vocoder
        with self._placement.in_use(audio_vae), self._placement.in_use(vocoder):
            mel = audio_vae.decode(latents.T.unsqueeze(0).float())
            samples = vocoder(mel).flatten().float()
            self._finite.require("the sound", torch.isfinite(samples).all())
            return samples.clamp(-1, 1).cpu()

    def video(
        self, latents: Tensor, on_decoded: OnDecoded | None = None, new_sink: NewFrameSink = FrameArray
    ) -> Frames:
        """Decode video latents (channels, frames, height, width), on the leader of several ranks.

        Raises `JobError` unless all pixels are finite.
        """
        vae = self._models.video_vae
        height, width = (side * vae.config.scale_factor_spatial for side in latents.shape[2:])
        size = ((latents.shape[1] - 1) * FRAMES_PER_LATENT + 1, height, width)
        with self._placement.in_use(vae), kernel_search(self._device), new_sink(*size) as sink:
            if vae.refiner is None:
                finite = self._decode(latents, size, sink, on_decoded)
            else:
                # It sees the whole clip, before any of it is passed on.
                whole = FrameArray(*size)
                finite = self._decode(latents, size, whole, on_decoded, 1 - _REFINED)
                finite = self._refine(whole.result(), sink, on_decoded) and finite
            # Only at the end, since the ranks decode together.
            self._finite.require("the picture", finite)
        return sink.result()

    def _decode(
        self,
        latents: Tensor,
        size: tuple[int, int, int],
        sink: FrameSink,
        on_decoded: OnDecoded | None,
        part: float = 1,
    ) -> bool:
        """Pass decoded frames on; returns whether all pixels are finite.

        Args:
            size: frames, height and width of the clip.
            part: what this is of all that there is to do, as a fraction.
        """
        count, height, width = size
        decoded, finite = 0, True
        assembler = FrameAssembler(height, width)
        for pieces in decode_pieces(self._models.video_vae, latents, self.tile_size(*latents.shape[2:]), self._ranks):
            for piece in pieces:
                decoded += piece.pixels.size
                finite = finite and piece.finite
                if (frames := assembler.add(piece)) is not None:
                    sink.add(frames)
            if on_decoded is not None:
                on_decoded(part * decoded / (count * height * width * 3))
        return finite

    def _refine(self, frames: np.ndarray, sink: FrameSink, on_decoded: OnDecoded | None) -> bool:
        """Pass frames on as the leader has redrawn them; returns whether all pixels are finite."""
        finite = True
        if self._ranks.is_leader:
            refined = refine(self._models.video_vae, from_bytes(frames)[0].to(self._device))
            finite = bool(torch.isfinite(refined).all())
            sink.add(to_bytes(refined.clamp(-1, 1)))
        if on_decoded is not None:
            on_decoded(1.0)
        return finite

    def given(self, frames: np.ndarray, on_decoded: OnDecoded | None, new_sink: NewFrameSink) -> Frames:
        """Pass on frames that are there already, uint8 (T, H, W, 3), as if they were decoded."""
        count, height, width, _ = frames.shape
        with new_sink(count, height, width) as sink:
            for start in range(0, count, FRAMES_PER_LATENT):
                if self._ranks.is_leader:
                    sink.add(frames[start : start + FRAMES_PER_LATENT].copy())
                if on_decoded is not None:
                    on_decoded(min(1.0, (start + FRAMES_PER_LATENT) / count))
        return sink.result()

    def tile_size(self, height: int, width: int) -> int | None:
        """Return the side of a tile, in latent pixels, that fits on every rank; None for whole frames."""
        sides = [
            side for side in self._ranks.all_gather(_fitting_tile(height, width, self._device, self._tile)) if side
        ]
        return min(sides, default=None)


def _fitting_tile(height: int, width: int, device: torch.device, limit: int | None) -> int | None:
    """Return the side of a tile, in latent pixels: at most `limit`, and what fits now; None for whole frames."""
    room = usable(available_memory(device)) if device.type == "cuda" else math.inf
    return fitting_tile((height, width), room, limit)
