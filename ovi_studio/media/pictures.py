"""First frames: picture files, read within limits.

The EXIF orientation is applied, and the first frame of an animation is used; what becomes of the colours is in
`colours`. Harmful files are rejected by their header, before anything is decoded. Nothing here imports torch.
"""

import hashlib
import importlib
import io
import struct
from functools import lru_cache
from pathlib import Path

from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError

from ovi_studio.core.clip import Picture
from ovi_studio.core.errors import JobError
from ovi_studio.core.sizes import MAX_RATIO
from ovi_studio.core.spec import ClipSpec
from ovi_studio.media.colours import raw_pixels, srgb_pixels

MAX_FILE_SIZE = 50 * 2**20
"""Bytes."""
MAX_PIXELS = 50_000_000
MIN_SIDE = 16
MAX_SIDE = 16_384
MAX_PROFILE = 16 * 2**20
"""Bytes of a colour profile or text in a PNG; profiles of printers and cameras exceed Pillow's own limit of 1 MB."""
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "BMP", "GIF", "TIFF")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what makes the picture upright."""
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1"}
_MAX_BRANDS = 64

PngImagePlugin.MAX_TEXT_CHUNK = MAX_PROFILE


def read_first_frame(spec: ClipSpec) -> Picture | None:
    """The first frame of a clip, None if it has none. Raises `JobError` like `read_picture`."""
    return None if spec.image is None else read_recent(spec.image, raw_colours=spec.raw_colours)


def read_recent(path: Path, *, raw_colours: bool) -> Picture:
    """Like `read_picture`, but a file that is read several times in a row is decoded once."""
    try:
        status = path.stat()
    except OSError:
        return read_picture(path, raw_colours=raw_colours)  # which says what is wrong
    stamp = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    return _read_once(path, raw_colours, stamp)


@lru_cache(maxsize=1)
def _read_once(path: Path, raw_colours: bool, stamp: tuple[int, ...]) -> Picture:
    """Read a picture; `stamp` only tells the versions of a file apart."""
    return read_picture(path, raw_colours=raw_colours)


def read_picture(path: str | Path, *, raw_colours: bool = False) -> Picture:
    """The picture in a PNG, JPEG, WebP, AVIF, BMP, GIF or TIFF file; HEIC needs the package pillow-heif.

    Raises `JobError` if the file cannot be read, has another format, is broken, or exceeds the limits above.

    Args:
        raw_colours: ignore colour profiles and transparency, as the official code does.
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
    return decode_picture(data, str(path), raw_colours=raw_colours)


def decode_picture(data: bytes, name: str, *, raw_colours: bool = False) -> Picture:
    """The picture in `data`; notes and errors refer to it by `name`. Raises `JobError` like `read_picture`."""
    formats = _require_heif(name) if _is_heif(data) else FORMATS
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            _check_size(*image.size, name)
            if image.mode in ("I", "F", "LAB"):
                raise JobError(
                    f"The picture {name} has a depth or colour space that is not supported; save it as 8-bit RGB."
                )
            upright = _upright(image)
            pixels, notes = (raw_pixels(upright), ()) if raw_colours else srgb_pixels(upright, name)
    except JobError:
        raise
    except UnidentifiedImageError as error:
        raise JobError(f"{name} is not a picture in a supported format; use {', '.join(FORMATS)}.") from error
    except Image.DecompressionBombError as error:
        raise JobError(_too_many_pixels(name)) from error
    except Exception as error:
        # Decoders raise almost anything for broken files: OSError, SyntaxError, struct.error, IndexError, ...
        raise JobError(f"The picture {name} is broken or truncated ({error}); save or download it again.") from error
    return Picture(data, pixels, hashlib.sha256(data).hexdigest(), notes)


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; EXIF data that cannot be read says nothing about it."""
    image.load()
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except (SyntaxError, ValueError, TypeError, struct.error):
        orientation = None
    turn = _TURNS.get(orientation or 1)
    return image if turn is None else image.transpose(turn)


def _is_heif(data: bytes) -> bool:
    """Whether a file says that it is HEIC or HEIF; AVIF files are in the same container, and may say so too."""
    if data[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(data[:4], "big"), 16 + 4 * _MAX_BRANDS)
    brands = {data[8:12], *(data[start : start + 4] for start in range(16, end, 4))}
    return bool(brands & _HEIF_BRANDS) and not brands & _AVIF_BRANDS


def _require_heif(name: str) -> tuple[str, ...]:
    """The formats of a HEIF file, for whose codec Pillow needs another package; raises `JobError` without it."""
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError as error:
        raise JobError(
            f"{name} is a HEIC picture; install its codec with `pip install pillow-heif`, or save it as JPEG."
        ) from error
    return ("HEIF",)


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
