"""First frames are read as OpenCV's `imread` would, within bounds, and anything else is refused with advice."""

import contextlib
import hashlib
import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ovi_studio.core.errors import JobError
from ovi_studio.media import pictures
from ovi_studio.media.pictures import decode_picture, read_picture

GRADIENT = np.stack([np.mgrid[:40, :60][0] * 6, np.mgrid[:40, :60][1] * 4, np.full((40, 60), 90)], -1).astype(np.uint8)


def encode(image: Image.Image | np.ndarray, kind: str = "PNG", **options) -> bytes:
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_16_bit_rgb(pixels: np.ndarray) -> bytes:
    """Pillow cannot write these."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in [*chunks, (b"IEND", b"")])


def pixels_of(data: bytes) -> np.ndarray:
    pixels = decode_picture(data, "test").pixels
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    return pixels


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_kinds_are_read_exactly(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    assert np.array_equal(pixels_of(encode(GRADIENT, kind, **options)), GRADIENT)


@pytest.mark.parametrize("kind", ["JPEG", "GIF"])
def test_lossy_kinds_are_read(kind):
    assert np.abs(pixels_of(encode(GRADIENT, kind)).astype(int) - GRADIENT).mean() < 12


def test_picture_keeps_the_file_and_its_hash(tmp_path):
    path = tmp_path / "first.png"
    path.write_bytes(encode(GRADIENT))
    picture = read_picture(path)
    assert picture.data == path.read_bytes()
    assert picture.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert picture.pixels.shape == (40, 60, 3)


@pytest.mark.parametrize(("kind", "orientation"), [("JPEG", 6), ("PNG", 8), ("WEBP", 3), ("TIFF", 6)])
def test_orientation_is_applied(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    turned = np.rot90(GRADIENT, {6: -1, 8: 1, 3: 2}[orientation])
    pixels = pixels_of(encode(GRADIENT, kind, exif=exif, **options))
    assert pixels.shape == turned.shape
    assert np.abs(pixels.astype(int) - turned).max() < 10


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_dropped_and_not_blended(kind):
    alpha = np.zeros((40, 60, 1), np.uint8)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    assert np.array_equal(pixels_of(encode(np.concatenate([GRADIENT, alpha], -1), kind, **options)), GRADIENT)


def test_palette_with_transparency_keeps_its_colours():
    image = Image.fromarray(GRADIENT).quantize(16)
    expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(pixels_of(encode(image, transparency=bytes([0, 128] * 8))), expected)
    assert np.array_equal(pixels_of(encode(image, transparency=3)), expected)


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey_becomes_three_equal_channels(mode):
    pixels = pixels_of(encode(Image.fromarray(GRADIENT).convert(mode)))
    assert np.array_equal(pixels[..., 0], pixels[..., 1])
    assert np.array_equal(pixels[..., 0], pixels[..., 2])
    assert pixels.max() > 150


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_high_byte(kind):
    values = np.linspace(0, 65535, 40 * 60).reshape(40, 60).astype(np.uint16)
    assert np.array_equal(pixels_of(encode(values, kind))[..., 1], values >> 8)


def test_16_bit_colour_keeps_its_high_byte():
    values = GRADIENT.astype(np.uint16) * 256 + 200
    assert np.array_equal(pixels_of(png_16_bit_rgb(values)), GRADIENT)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(kind):
    image = Image.fromarray(GRADIENT).convert("CMYK")
    assert np.abs(pixels_of(encode(image, kind)).astype(int) - GRADIENT).mean() < 8


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken(kind):
    red, blue = (Image.new("RGB", (60, 40), colour) for colour in ("red", "blue"))
    options = {"lossless": True} if kind == "WEBP" else {}
    pixels = pixels_of(encode(red, kind, save_all=True, append_images=[blue], **options))
    assert np.array_equal(pixels, np.asarray(red))


def test_picture_of_several_pictures_as_phones_write_is_read():
    image = Image.fromarray(GRADIENT)
    data = encode(image, "MPO", save_all=True, append_images=[image])
    assert np.abs(pixels_of(data).astype(int) - GRADIENT).mean() < 12


# Refused


def assert_refused(data: bytes, match: str) -> None:
    with pytest.raises(JobError, match=match) as caught:
        decode_picture(data, "first.png")
    assert "first.png" in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"hello", b"%PDF-1.4", b"<svg xmlns='http://www.w3.org/2000/svg'/>"])
def test_what_is_no_picture_is_refused(data):
    assert_refused(data, "not a picture in a supported format; use PNG, JPEG")


def test_other_kinds_of_picture_are_refused():
    assert_refused(encode(GRADIENT, "PPM"), "not a picture in a supported format")
    assert_refused(encode(GRADIENT, "ICO"), "not a picture in a supported format")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_truncated_picture_is_refused(kind):
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    data = encode(noise, kind)
    with pytest.raises(JobError):
        decode_picture(data[: len(data) // 2], "first.png")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("width", "height"), [(8000, 7000), (12_000, 12_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)]
)
def test_decompression_bomb_is_refused_from_its_header(width, height):
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    assert_refused(
        b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", b""), "more than 50 million pixels; scale it down"
    )


@pytest.mark.parametrize("shape", [(8, 8, 3), (15, 100, 3)])
def test_tiny_picture_is_refused(shape):
    assert_refused(encode(np.zeros(shape, np.uint8)), "scale its sides")


def test_long_picture_is_refused():
    assert_refused(encode(np.zeros((16, 17_000, 3), np.uint8)), "scale its sides")
    assert_refused(encode(np.zeros((20, 321, 3), np.uint8)), "too long and thin")
    assert pixels_of(encode(np.zeros((20, 320, 3), np.uint8))).shape == (20, 320, 3)


def test_pixels_without_a_known_range_are_refused():
    assert_refused(encode(np.zeros((40, 60), np.float32), "TIFF"), "save it as 8-bit RGB")
    assert_refused(encode(Image.fromarray(GRADIENT).convert("LAB"), "TIFF"), "save it as 8-bit RGB")


def test_missing_file_and_folder_are_refused(tmp_path):
    for path in (tmp_path / "missing.png", tmp_path, tmp_path / ("x" * 300)):
        with pytest.raises(JobError, match="check"):
            read_picture(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(JobError, match="There is no picture"):
        read_picture(tmp_path / "pipe.png")


def test_large_file_is_refused(tmp_path):
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(pictures.MAX_FILE_SIZE + 1)
    with pytest.raises(JobError, match="larger than 50 MB"):
        read_picture(tmp_path / "large.png")


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_broken_files_raise_nothing_but_job_errors(kind):
    random = np.random.default_rng(3)
    whole = encode(GRADIENT, kind)
    for _ in range(200):
        data = bytearray(whole)
        for position in random.integers(0, min(len(data), 400), 3):
            data[position] = random.integers(256)
        with contextlib.suppress(JobError):
            decode_picture(bytes(data), "first.png")
