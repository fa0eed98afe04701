"""Give a video VAE a further level of its decoder, which draws finer patches, and a refiner. Latents stay valid.

Everything else keeps its weights. What is new has to be trained.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ovi_studio.core.variants import decoder_levels
from ovi_studio.models.video_vae import build_video_vae


def with_new_parts(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return weights for `build_video_vae(config)`; a last level and a refiner that `weights` lacks are random.

    Raises ValueError if anything else differs from the config.
    """
    built = build_video_vae(config).state_dict()
    number = len(decoder_levels(config)[0]) - 1
    last = f"decoder.up_blocks.{number}."
    new: tuple[str, ...] = ()
    if not any(name.startswith(last) for name in weights):
        new = (last, f"decoder.up_blocks.{number - 1}.upsampler.", "decoder.norm_out.", "decoder.conv_out.")
    new += tuple(name for name in built if name.startswith("refiner.") and name not in weights)
    result = {name: tensor if name.startswith(new) else weights.get(name) for name, tensor in built.items()}
    wrong = [name for name, tensor in result.items() if tensor is None or tensor.shape != built[name].shape]
    if wrong:
        raise ValueError(f"a video VAE of other dimensions: {', '.join(wrong)}")
    return {name: tensor for name, tensor in result.items() if tensor is not None}
