"""The conditions of a clip: the first frame as a tensor, and the texts as embeddings."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ovi_studio.core.sizes import UNIT, picture_size


@dataclass(frozen=True)
class TextEmbeddings:
    """Outputs of the text encoder, (tokens, dim) each; both towers share the positive prompt."""

    positive: Tensor
    video_negative: Tensor
    audio_negative: Tensor


def first_frame_pixels(pixels: np.ndarray, area: int, unit: int = UNIT) -> Tensor:
    """Convert uint8 (H, W, 3) to float32 (1, 3, height, width) in [-1, 1], resized to the clip's size for `area`.

    Bicubic without antialiasing, as in the official code.
    """
    image = torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0).float() / 255 * 2 - 1
    height, width = pixels.shape[:2]
    size = picture_size(height, width, area, unit)
    if size == (height, width):
        return image
    return functional.interpolate(image, size=size, mode="bicubic", align_corners=False)
