"""Single frames of a clip, without holding all of them: a clip of ten seconds has 650 MB."""

import io
from pathlib import Path

import av
import numpy as np
from PIL import Image

from ovi_studio.core.errors import JobError
from ovi_studio.media.clip_files import to_rgb


def read_frame(path: Path, index: int | None = None) -> np.ndarray:
    """uint8 (H, W, 3), RGB: the frame at `index`, or the last one if the clip is shorter or no index is given.

    Raises `JobError` if the clip cannot be decoded.
    """
    try:
        with path.open("rb") as file, av.open(file, format="mp4", metadata_errors="replace") as container:
            container.streams.video[0].thread_type = "AUTO"
            found = None
            for number, frame in enumerate(container.decode(video=0)):
                found = frame
                if number == index:
                    break
            if found is None:
                raise ValueError("no frame")
            return to_rgb(found)
    # Without a stream it is an IndexError, without a frame a ValueError.
    except (av.FFmpegError, OSError, IndexError, ValueError) as error:
        raise JobError(f"{path.name} cannot be decoded; the file is broken. Make the clip again.") from error


def encode(pixels: np.ndarray, kind: str) -> bytes:
    """A picture file, `PNG` or `JPEG`."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **({"quality": 85} if kind == "JPEG" else {}))
    return buffer.getvalue()
