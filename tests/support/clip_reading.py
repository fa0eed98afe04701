"""Decodes the mp4 files that the app writes, to compare them with what was written."""

from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from ovi_studio.media.frames import to_rgb


def read_frames(path: Path) -> np.ndarray:
    """All frames of a clip, uint8 (T, H, W, 3), RGB."""
    converter = VideoReformatter()
    with av.open(str(path), "r", format="mp4") as container:
        return np.stack([to_rgb(frame, converter) for frame in container.decode(video=0)])


def read_samples(path: Path) -> np.ndarray:
    """The sound of a clip, float32 (N,), mono."""
    with av.open(str(path), "r", format="mp4") as container:
        blocks = [frame.to_ndarray() for frame in container.decode(audio=0)]
        # The last block is padded with silence; the duration is the true one.
        duration = container.streams.audio[0].duration
        return np.concatenate(blocks, axis=1)[0, :duration]
