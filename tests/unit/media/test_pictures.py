"""First frames are read from the files that people have, within bounds, and anything else is refused with advice."""

import contextlib
import hashlib
import io
import os
import struct
import sys
import zlib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageFile

from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec
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


@pytest.mark.parametrize("kind", ["JPEG", "GIF", "AVIF"])
def test_lossy_kinds_are_read(kind):
    assert np.abs(pixels_of(encode(GRADIENT, kind)).astype(int) - GRADIENT).mean() < 12


def test_picture_keeps_the_file_and_its_hash(tmp_path):
    path = tmp_path / "first.png"
    path.write_bytes(encode(GRADIENT))
    picture = read_picture(path)
    assert picture.data == path.read_bytes()
    assert picture.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert picture.pixels.shape == (40, 60, 3)


TURNS = {
    2: np.fliplr(GRADIENT),
    3: np.rot90(GRADIENT, 2),
    4: np.flipud(GRADIENT),
    5: np.swapaxes(GRADIENT, 0, 1),
    6: np.rot90(GRADIENT, -1),
    7: np.rot90(np.swapaxes(GRADIENT, 0, 1), 2),
    8: np.rot90(GRADIENT),
}
"""EXIF orientation -> the gradient as people see it."""


@pytest.mark.parametrize(
    ("kind", "orientation"),
    [*(("JPEG", orientation) for orientation in TURNS), ("PNG", 8), ("WEBP", 3), ("TIFF", 6), ("AVIF", 7), ("AVIF", 6)],
)
def test_orientation_is_applied(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}, "AVIF": {"quality": 100}}
    options = options.get(kind, {})
    turned = TURNS[orientation]
    pixels = pixels_of(encode(GRADIENT, kind, exif=exif, **options))
    assert pixels.shape == turned.shape
    assert np.abs(pixels.astype(int) - turned).max() < 10


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
@pytest.mark.parametrize(
    "exif", [b"garbage", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x01red\0", b"II*\0\x08\0\0\0"]
)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_picture_whose_exif_data_are_broken_is_read_as_it_lies(kind, exif):
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    pixels = pixels_of(encode(GRADIENT, kind, exif=b"Exif\0\0" + exif, **options))
    assert np.abs(pixels.astype(int) - GRADIENT).max() < 10


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


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_of_an_animation_the_first_frame_is_taken(kind):
    red, blue = (Image.new("RGB", (60, 40), colour) for colour in ("red", "blue"))
    options = {"lossless": True} if kind == "WEBP" else {}
    pixels = pixels_of(encode(red, kind, save_all=True, append_images=[blue], **options))
    assert np.abs(pixels.astype(int) - np.asarray(red)).max() <= (2 if kind == "AVIF" else 0)


def test_picture_of_several_pictures_as_phones_write_is_read():
    image = Image.fromarray(GRADIENT)
    data = encode(image, "MPO", save_all=True, append_images=[image])
    assert np.abs(pixels_of(data).astype(int) - GRADIENT).mean() < 12


def heif(*brands: bytes) -> bytes:
    """The beginning of a file in the container of HEIC and AVIF, with its major brand first."""
    content = brands[0] + bytes(4) + b"".join(brands[1:])
    return struct.pack(">I4s", 8 + len(content), b"ftyp") + content + bytes(100)


@pytest.mark.parametrize("brands", [(b"heic", b"mif1"), (b"mif1", b"heic", b"miaf"), (b"heix",), (b"msf1", b"hevc")])
def test_heic_without_its_codec_is_refused_by_name_whatever_the_file_is_called(brands, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert_refused(heif(*brands), "first.png is a HEIC picture; install its codec with `pip install pillow-heif`")


def test_avif_that_names_the_container_first_is_not_taken_for_heic(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    data = encode(GRADIENT, "AVIF")
    size = int.from_bytes(data[:4], "big")
    brands = [data[start : start + 4] for start in range(16, size, 4)]
    assert b"avif" in brands
    assert pixels_of(data[:8] + b"mif1" + data[12:]).shape == GRADIENT.shape


def test_heic_is_read_with_its_codec(monkeypatch):
    """With a codec that stands in for pillow-heif: it turns any such file into the gradient."""

    class Codec(ImageFile.ImageFile):
        format = "HEIF"

        def _open(self):
            self._size, self._mode = (60, 40), "RGB"

        def load(self):
            self.im = Image.fromarray(GRADIENT).im
            return Image.Image.load(self)

    def register():
        Image.register_open("HEIF", Codec, lambda prefix: prefix[4:8] == b"ftyp")

    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    monkeypatch.setitem(sys.modules, "pillow_heif", SimpleNamespace(register_heif_opener=register))
    assert np.array_equal(pixels_of(heif(b"heic", b"mif1")), GRADIENT)


def test_a_file_that_is_read_again_at_once_is_decoded_once(tmp_path, monkeypatch):
    path = tmp_path / "first.png"
    path.write_bytes(encode(GRADIENT))
    decoded = []
    monkeypatch.setattr(pictures, "srgb_pixels", lambda image, name: decoded.append(name) or (GRADIENT, ()))
    spec = ClipSpec(prompt="a", variant="b", image=path)
    assert pictures.read_first_frame(spec) is pictures.read_first_frame(spec)
    assert len(decoded) == 1
    path.write_bytes(encode(GRADIENT[:30]))
    pictures.read_first_frame(spec)
    assert len(decoded) == 2
    assert np.array_equal(pictures.read_first_frame(replace(spec, raw_colours=True)).pixels, GRADIENT[:30])
    path.unlink()
    with pytest.raises(JobError, match="There is no picture"):
        pictures.read_first_frame(spec)


# Refused


def assert_refused(data: bytes, match: str) -> None:
    with pytest.raises(JobError, match=match) as caught:
        decode_picture(data, "first.png")
    assert "first.png" in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"hello", b"%PDF-1.4", b"<svg xmlns='http://www.w3.org/2000/svg'/>"])
def test_a_file_that_is_not_a_picture_is_refused(data):
    assert_refused(data, "not a picture in a supported format; use PNG, JPEG")


def test_pictures_of_other_kinds_are_refused():
    assert_refused(encode(GRADIENT, "PPM"), "not a picture in a supported format")
    assert_refused(encode(GRADIENT, "ICO"), "not a picture in a supported format")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF", "BMP", "GIF", "TIFF"])
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


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_decompression_bomb_in_an_avif_is_refused_from_its_header():
    data = encode(GRADIENT, "AVIF")
    size = data.index(b"ispe") + 8
    huge = data[:size] + struct.pack(">II", 12_000, 12_000) + data[size + 8 :]
    with pytest.raises(JobError):
        decode_picture(huge, "first.avif")


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
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF", "BMP", "GIF", "TIFF"])
def test_broken_files_raise_nothing_but_job_errors(kind):
    random = np.random.default_rng(3)
    whole = encode(GRADIENT, kind)
    for _ in range(200):
        data = bytearray(whole)
        for position in random.integers(0, min(len(data), 400), 3):
            data[position] = random.integers(256)
        with contextlib.suppress(JobError):
            decode_picture(bytes(data), "first.png")
