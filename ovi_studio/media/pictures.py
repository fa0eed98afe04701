"""First frames: picture files, read within limits and as OpenCV reads them in the official code.

Alpha is dropped, not blended; 16-bit values are reduced to their high byte; the EXIF orientation is applied; the first
frame of an animation is used. Harmful files are rejected by their header, before anything is decoded. Nothing here
imports torch.
"""

import hashlib
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ovi_studio.core.clip import Picture
from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import MAX_RATIO

MAX_FILE_SIZE = 50 * 2**20
"""Bytes."""
MAX_PIXELS = 50_000_000
MIN_SIDE = 16
MAX_SIDE = 16_384
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")


def read_picture(path: str | Path) -> Picture:
    """The picture in a PNG, JPEG, WebP, BMP, GIF or TIFF file.

    Raises `JobError` if the file cannot be read, has another format, is broken, or exceeds the limits above.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise JobError(f"There is no picture {path}; check the path of the first frame.")
        # One byte more than allowed is enough to tell, even if the file is growing.
        with path.open("rb") as file:
            data = file.read(MAX_FILE_SIZE + 1)
    except OSError as error:
        raise JobError(
            f"The picture {path} cannot be read ({error.strerror}); check its path and permissions."
        ) from error
    if len(data) > MAX_FILE_SIZE:
        raise JobError(f"The picture {path} is larger than {MAX_FILE_SIZE // 2**20} MB; save it smaller.")
    return decode_picture(data, str(path))


def decode_picture(data: bytes, name: str) -> Picture:
    """The picture in `data`; errors refer to it by `name`. Raises `JobError` like `read_picture`."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(*image.size, name)
            pixels = _rgb(image, name)
    except JobError:
        raise
    except UnidentifiedImageError as error:
        raise JobError(f"{name} is not a picture in a supported format; use {', '.join(FORMATS)}.") from error
    except Image.DecompressionBombError as error:
        raise JobError(_too_many_pixels(name)) from error
    except Exception as error:
        # Decoders raise almost anything for broken files: OSError, SyntaxError, struct.error, IndexError, ...
        raise JobError(f"The picture {name} is broken or truncated ({error}); save or download it again.") from error
    return Picture(data, pixels, hashlib.sha256(data).hexdigest())


def _check_size(width: int, height: int, name: str) -> None:
    shorter, longer = sorted((width, height))
    if width * height > MAX_PIXELS:
        raise JobError(_too_many_pixels(name))
    if shorter < MIN_SIDE or longer > MAX_SIDE:
        raise JobError(
            f"The picture {name} has {width}x{height} pixels; scale its sides to between {MIN_SIDE} and {MAX_SIDE}."
        )
    if longer > MAX_RATIO * shorter:
        raise JobError(
            f"The picture {name} is too long and thin ({width}x{height}); crop it so that the longer side is at most "
            f"{MAX_RATIO:g} times the shorter."
        )


def _too_many_pixels(name: str) -> str:
    return f"The picture {name} has more than {MAX_PIXELS // 10**6} million pixels; scale it down."


def _rgb(image: Image.Image, name: str) -> np.ndarray:
    """The pixels of an opened file, uint8 (H, W, 3), upright."""
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips at 255 instead of scaling.
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.stack([grey] * 3, axis=-1)
    if image.mode in ("I", "F", "LAB"):
        raise JobError(f"The picture {name} has a depth or colour space that is not supported; save it as 8-bit RGB.")
    if image.has_transparency_data:
        # Converting through RGBA keeps the colour of transparent pixels; a palette with alpha needs it too.
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))
