"""The colours of first frames: profiles become sRGB, transparent parts white, and raw colours are those of the file."""

import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from ovi_studio.media.pictures import decode_picture

GRADIENT = np.stack([np.mgrid[:40, :60][0] * 6, np.mgrid[:40, :60][1] * 4, np.full((40, 60), 90)], -1).astype(np.uint8)
DISPLAY_P3 = ((0.515102, 0.241182, -0.001050), (0.291965, 0.692236, 0.041882), (0.157153, 0.066581, 0.784378))
"""Primaries as XYZ under D50."""
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def encode(image: Image.Image | np.ndarray, kind: str = "PNG", **options) -> bytes:
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def fixed(*numbers: float) -> bytes:
    return b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)


def profile(space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile of version 2 (ICC.1:2001-04)."""
    header = bytes(4) + b"test" + struct.pack(">I", 0x02400000) + b"mntr" + space + connection + bytes(12) + b"acsp"
    header = header.ljust(68, b"\0") + fixed(0.9642, 1, 0.8249)
    tags = {b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1, 0.8249), **tags}
    start, table, data = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += name + struct.pack(">II", start + len(data), len(value))
        data += value.ljust(-(-len(value) // 4) * 4, b"\0")
    whole = header.ljust(128, b"\0") + table + data
    return struct.pack(">I", len(whole)) + whole[4:]


def curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def rgb_profile(primaries: tuple[tuple[float, ...], ...], gamma: float) -> bytes:
    colorants = {
        name + b"XYZ": b"XYZ \0\0\0\0" + fixed(*xyz) for name, xyz in zip((b"r", b"g", b"b"), primaries, strict=True)
    }
    return profile(b"RGB ", b"XYZ ", colorants | {name + b"TRC": curve(gamma) for name in (b"r", b"g", b"b")})


def grey_profile(gamma: float) -> bytes:
    return profile(b"GRAY", b"XYZ ", {b"kTRC": curve(gamma)})


def cmyk_profile() -> bytes:
    """A profile for inks that are all grey: cyan, magenta and yellow halve the lightness together, black removes it."""
    identity = bytes(range(256))
    corners = b""
    for number in range(16):
        inks = [number >> 3 & 1, number >> 2 & 1, number >> 1 & 1, number & 1]
        corners += bytes([0 if inks[3] else 255 - 127 * max(inks[:3]), 128, 128])
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1) + identity * 4 + corners
    return profile(b"CMYK", b"Lab ", {b"A2B0": table + identity * 3})


def read(data: bytes, *, raw: bool = False) -> tuple[np.ndarray, tuple[str, ...]]:
    picture = decode_picture(data, "first.png", raw_colours=raw)
    assert picture.pixels.shape[2] == 3
    assert picture.pixels.dtype == np.uint8
    return picture.pixels, picture.notes


def flat(colour: tuple[int, ...] | int, mode: str) -> Image.Image:
    return Image.new(mode, (60, 40), colour)


# Profiles


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG", "AVIF"])
def test_a_wide_profile_becomes_srgb(kind):
    """The red of sRGB has these values in Display P3."""
    options = {"lossless": True} if kind == "WEBP" else {} if kind in ("PNG", "TIFF") else {"quality": 100}
    data = encode(flat((234, 51, 35), "RGB"), kind, icc_profile=rgb_profile(DISPLAY_P3, 2.2), **options)
    pixels, notes = read(data)
    assert np.abs(pixels[20, 30].astype(int) - (255, 0, 0)).max() <= 10
    assert pixels[20, 30, 0] >= 254
    assert notes == ()
    assert np.abs(read(data, raw=True)[0].astype(int) - (234, 51, 35)).max() <= 3


def test_a_png_with_a_profile_of_several_megabytes_is_read_in_its_colours() -> None:
    primaries = dict(
        zip((b"rXYZ", b"gXYZ", b"bXYZ"), (b"XYZ \0\0\0\0" + fixed(*xyz) for xyz in DISPLAY_P3), strict=True)
    )
    curves = {name: curve(2.2) for name in (b"rTRC", b"gTRC", b"bTRC")}
    large = profile(b"RGB ", b"XYZ ", {**primaries, **curves, b"note": b"text\0\0\0\0" + bytes(3_000_000)})
    small = rgb_profile(DISPLAY_P3, 2.2)
    pictures = [decode_picture(encode(GRADIENT, icc_profile=data), "p.png") for data in (large, small)]
    assert not pictures[0].notes
    assert np.array_equal(pictures[0].pixels, pictures[1].pixels)


def test_a_picture_in_srgb_keeps_its_colours():
    assert np.array_equal(read(encode(GRADIENT, icc_profile=SRGB))[0], GRADIENT)


def test_a_palette_is_converted_with_its_profile():
    image = Image.fromarray(GRADIENT).quantize(16)
    given = rgb_profile(DISPLAY_P3, 1.0)
    expected = read(encode(image.convert("RGB"), icc_profile=given))[0]
    assert np.array_equal(read(encode(image, icc_profile=given))[0], expected)
    assert not np.array_equal(expected, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["L", "LA", "1", "I;16"])
def test_grey_is_converted_with_its_profile(mode):
    grey = {"L": 64, "LA": (64, 255), "1": 1, "I;16": 64 * 256 + 77}[mode]
    pixels, notes = read(encode(flat(grey, mode), icc_profile=grey_profile(1.0)))
    # Linear light of 64/255 is 137 in sRGB (IEC 61966-2-1).
    expected = 255 if mode == "1" else 137
    assert np.abs(pixels.astype(int) - expected).max() <= 1
    assert notes == ()


def test_grey_with_a_profile_for_colours_is_converted_as_colour():
    pixels, notes = read(encode(flat(64, "L"), icc_profile=rgb_profile(DISPLAY_P3, 1.0)))
    assert np.abs(pixels.astype(int) - 137).max() <= 1
    assert notes == ()


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_converted_with_its_profile(kind):
    data = encode(flat((255, 0, 0, 0), "CMYK"), kind, icc_profile=cmyk_profile())
    pixels, notes = read(data)
    # L* = 50 is 119 in sRGB.
    assert np.abs(pixels.astype(int) - 119).max() <= 2
    assert notes == ()
    assert read(data, raw=True)[0][0, 0].tolist() == [0, 255, 255]


@pytest.mark.parametrize(
    "broken", [b"no profile", bytes(200), SRGB[:150], SRGB[:-100], grey_profile(1.0), cmyk_profile()], ids=range(6)
)
def test_a_broken_profile_is_ignored_and_said(broken):
    pixels, notes = read(encode(GRADIENT, icc_profile=broken))
    assert np.array_equal(pixels, GRADIENT)
    (note,) = notes
    assert note.startswith("first.png: its colour profile cannot be used and was ignored")


def test_a_profile_that_cannot_be_unpacked_is_said():
    data = encode(GRADIENT)
    body = b"iCCP" + b"name\0\0" + b"not deflated"
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    pixels, notes = read(data[:33] + chunk + data[33:])
    assert np.array_equal(pixels, GRADIENT)
    assert "was ignored" in notes[0]


# Transparency


def with_alpha(pixels: np.ndarray, alpha: int) -> np.ndarray:
    return np.concatenate([pixels, np.full((*pixels.shape[:2], 1), alpha, np.uint8)], -1)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("alpha", [0, 100, 255])
def test_transparent_parts_are_put_on_white_and_said(kind, alpha):
    data = encode(with_alpha(GRADIENT, alpha), kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    pixels, notes = read(data)
    expected = (GRADIENT * (alpha / 255) + 255 * (1 - alpha / 255)).round()
    assert np.abs(pixels - expected).max() <= 1
    assert [note.startswith("first.png: its transparent parts were put on white") for note in notes] == (
        [] if alpha == 255 else [True]
    )
    assert np.array_equal(read(data, raw=True)[0], GRADIENT)
    assert read(data, raw=True)[1] == ()


def test_an_opaque_picture_with_alpha_keeps_its_colours_exactly():
    assert np.array_equal(read(encode(with_alpha(GRADIENT, 255)))[0], GRADIENT)


def test_transparent_entries_of_a_palette_become_white():
    image = Image.fromarray(GRADIENT).quantize(16)
    colours, entries = np.asarray(image.convert("RGB")), np.asarray(image)
    data = encode(image, transparency=3)
    assert np.array_equal(read(data)[0], np.where((entries == 3)[..., None], 255, colours))
    assert np.array_equal(read(data, raw=True)[0], colours)
    half = encode(image, transparency=bytes([0, 128] * 8))
    assert np.array_equal(read(half, raw=True)[0], colours)
    assert (read(half)[0][entries % 2 == 0] == 255).all()


def test_a_transparent_gif_is_put_on_white():
    image = flat(0, "P")
    image.putpalette([255, 0, 255, 0, 128, 0])
    image.paste(1, (30, 0, 60, 40))
    pixels, notes = read(encode(image, "GIF", transparency=0))
    assert (pixels[:, :30] == 255).all()
    assert (pixels[:, 30:] == (0, 128, 0)).all()
    assert len(notes) == 1


@pytest.mark.parametrize("mode", ["L", "1", "I;16", "RGB"])
def test_a_colour_that_stands_for_transparent_becomes_white(mode):
    seen, hidden = {"L": (90, 10), "1": (1, 0), "I;16": (0x5A00, 0x0A0B), "RGB": ((90,) * 3, (10, 0, 9))}[mode]
    image = flat(seen, mode)
    for place in itertools.product(range(30), range(40)):
        image.putpixel(place, hidden)
    pixels, notes = read(encode(image, transparency=hidden))
    assert (pixels[:, :30] == 255).all()
    assert (pixels[:, 30:] == (255 if mode == "1" else 90)).all()
    assert len(notes) == 1


def test_profile_and_transparency_are_both_applied():
    pixels, notes = read(encode(with_alpha(np.asarray(flat((64,) * 3, "RGB")), 128), icc_profile=grey_as_rgb()))
    assert np.abs(pixels.astype(int) - round(137 * 128 / 255 + 255 * 127 / 255)).max() <= 1
    assert len(notes) == 1


def grey_as_rgb() -> bytes:
    return rgb_profile(DISPLAY_P3, 1.0)
