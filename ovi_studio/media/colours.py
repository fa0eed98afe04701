"""The colours of a first frame: 8-bit sRGB without transparency, whatever the file holds.

The official code ignores colour profiles and the transparency of pixels. Here a profile is converted to sRGB, and
transparent parts are put on white, as every viewer shows them; `raw_colours` gives the official result.
"""

import io

import numpy as np
from PIL import Image, ImageCms

_SRGB = ImageCms.createProfile("sRGB")
_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""Colour space of a profile -> mode of the pictures that it describes."""


def raw_pixels(image: Image.Image) -> np.ndarray:
    """The stored colours as uint8 (H, W, 3), also those of transparent pixels: what OpenCV reads in the official code.

    16-bit values are reduced to their high byte.
    """
    return np.array(_without_alpha(image)[0].convert("RGB"))


def srgb_pixels(image: Image.Image, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """The visible colours as uint8 (H, W, 3), sRGB on white, and notes about `name` for the person who chose it."""
    notes = []
    stored, alpha = _without_alpha(image)
    colours = stored.convert("RGB")
    if "icc_profile" in image.info:
        try:
            colours = _convert(stored, image.info["icc_profile"])
        except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
            notes.append(
                f"{name}: its colour profile cannot be used and was ignored; save it as sRGB if it looks wrong."
            )
    if alpha is not None and np.asarray(alpha).min() < 255:
        colours = Image.composite(colours, Image.new("RGB", colours.size, "white"), alpha)
        notes.append(f"{name}: its transparent parts were put on white; fill them to choose another background.")
    return np.array(colours), tuple(notes)


def _without_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colours in mode L, RGB or CMYK, and the opacity in mode L if there is any transparency data."""
    if image.mode.startswith("I;16"):
        return _high_byte(image)
    grey = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        # Converting with alpha keeps the colour of transparent pixels; a palette with alpha needs it too.
        with_alpha = image.convert("LA" if grey else "RGBA")
        return with_alpha.convert("L" if grey else "RGB"), with_alpha.getchannel("A")
    if image.mode == "CMYK":
        return image, None
    return image.convert("L" if grey else "RGB"), None


def _high_byte(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """`_without_alpha` for 16-bit grey, which Pillow's own conversion clips at 255 instead of scaling."""
    values = np.asarray(image)
    colours = Image.fromarray((values >> 8).astype(np.uint8))
    transparent = image.info.get("transparency")
    if transparent is None:
        return colours, None
    return colours, Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8))


def _convert(colours: Image.Image, profile: bytes) -> Image.Image:
    """Convert from a profile to sRGB; raises one of several errors if the profile is broken or of another kind."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    mode = _MODES.get(source.profile.xcolor_space.strip())
    if mode == "RGB" and colours.mode == "L":
        colours = colours.convert("RGB")
    if colours.mode != mode:
        raise ValueError(f"a profile for {mode} in a picture in {colours.mode}")
    # As browsers do: white stays white, and shadows are not cut off.
    intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
    transform = ImageCms.buildTransform(source, _SRGB, mode, "RGB", intent, flags)
    converted = ImageCms.applyTransform(colours, transform)
    if converted is None:
        raise ValueError("the conversion gave no picture")
    return converted
