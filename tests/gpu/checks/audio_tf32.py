import torch
from torch import Tensor

from gpu.check import Findings, Rig, require
from gpu.device import tf32
from gpu.random_models import random_audio_vae, random_vocoder
from gpu.steps import all_finite, relative_error


@torch.no_grad()
def check(rig: Rig, found: Findings) -> None:
    """The relative error that TF32 causes in mel and waveform of the float32 audio codec."""
    vae, vocoder = random_audio_vae(rig, rig.device), random_vocoder(rig, rig.device)
    generator = torch.Generator(rig.device).manual_seed(0)
    length = 22 if rig.small else 157
    latents = torch.randn(1, 20, length, device=rig.device, generator=generator)

    def decoded(allowed: bool, mel: Tensor | None = None) -> tuple[Tensor, Tensor]:
        with tf32(allowed):
            own = vae.decode(latents)
            return own, vocoder(own if mel is None else mel)

    mel, waveform = decoded(allowed=False)
    rounded_mel, rounded_waveform = decoded(allowed=True)
    _, from_exact_mel = decoded(allowed=True, mel=mel)
    require(all_finite(mel, waveform), "The audio codec's result is not finite.")
    require(waveform.shape == (1, 1, length * 512), f"The waveform has the shape {tuple(waveform.shape)}.")
    found.note("mel", relative_error(rounded_mel, mel))
    found.note("waveform of the same mel", relative_error(from_exact_mel, waveform))
    found.note("waveform", relative_error(rounded_waveform, waveform))
