"""Small clips with picture, sound and recipe, and files of other programs."""

import dataclasses
import io
from pathlib import Path

import av
import numpy as np
from PIL import Image

from ovi_studio.core.clip import Clip, Picture
from ovi_studio.core.spec import ClipSpec
from ovi_studio.media.pictures import decode_picture

FRAMES, HEIGHT, WIDTH = 25, 64, 96
SAMPLES = 16_400


def make_clip(picture: Picture | None = None, **settings) -> Clip:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    frames = [np.stack([rows * 3, columns * 2, rows + columns + 2 * t], axis=-1) for t in range(FRAMES)]
    sound = 0.4 * np.sin(2 * np.pi * 440 * np.arange(SAMPLES) / 16_000)
    image = Path("/home/somebody/private/first frame.png") if picture else None
    settings = {"prompt": "A <S>small<E> clip", "variant": "960x960_5s", "image": image, "seed": 7} | settings
    return Clip(
        spec=ClipSpec(**settings),
        frames=np.stack(frames).astype(np.uint8),
        samples=sound.astype(np.float32),
        picture=picture,
        record={"seconds": 1.5, "checkpoints": {"transformer": "00ff"}},
    )


def tiny_clip(**settings) -> Clip:
    clip = make_clip(**settings)
    return dataclasses.replace(clip, frames=clip.frames[:2, :32, :32], samples=clip.samples[:1400])


def encoded_picture(kind: str, size: tuple[int, int] = (40, 30), **options) -> Picture:
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind, **options)
    return decode_picture(buffer.getvalue(), "test")


def foreign_mp4(path: Path, comment: str | None) -> Path:
    """An mp4 with the given comment that another program could have written."""
    with av.open(str(path), "w") as container:
        if comment is not None:
            container.metadata["comment"] = comment
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    return path
