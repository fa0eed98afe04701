"""Clips in a folder, for tests of the library."""

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

from ovi_studio.core.clip import Clip, Picture
from ovi_studio.core.spec import ClipSpec
from ovi_studio.library import Library, LibraryClip, Query
from ovi_studio.media import clip_files
from ovi_studio.media.pictures import decode_picture
from ovi_studio.queue.paths import StudioPaths


def picture() -> Picture:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (200, 40, 20)).save(buffer, "PNG")
    return decode_picture(buffer.getvalue(), "test")


def write(paths: StudioPaths, prompt: str = "A clip", *, first: Picture | None = None, made: float = 0, **spec) -> Path:
    rows, columns = np.mgrid[:32, :64]
    frames = np.stack([np.stack([rows * 4, columns * 2, rows + 9 * t], -1) for t in range(9)]).astype(np.uint8)
    settings = {"prompt": prompt, "variant": "960x960_5s", "image": Path("/home/me/first.png") if first else None}
    clip = Clip(ClipSpec(**settings | spec), frames, np.zeros(6000, np.float32), first, {"nonce": os.urandom(4).hex()})
    path = clip_files.write_clip(clip, paths.outputs)
    if made:
        os.utime(path, (made, made))
    return path


def listed(library: Library, **query) -> tuple[LibraryClip, ...]:
    library.refresh()
    return library.search(Query(**query)).clips


def prompts(library: Library, **query) -> list[str]:
    return [clip.spec.prompt for clip in listed(library, **query)]
