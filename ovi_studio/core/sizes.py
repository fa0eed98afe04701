"""The official size rules: every clip has about its variant's pixel area and sides that are multiples of a unit.

The unit is the stride of the video VAE times the patch of the transformer, `Variant.size_unit`.
"""

import math

from ovi_studio.core.errors import JobError

UNIT = 32
"""The unit of the published variants: 16 pixels per latent, two latents per token."""

ASPECT_RATIOS = {
    "16:9": (9, 16),
    "9:16": (16, 9),
    "1:1": (1, 1),
    "4:3": (3, 4),
    "3:4": (4, 3),
    "21:9": (9, 21),
}
"""Name (conventional width:height) -> (height, width) in arbitrary units."""
OWN_SIZE = "own size"
"""Name for the default size of a variant whose aspect ratio is not in `ASPECT_RATIOS`."""
MAX_SIDE = 8192
"""Pixels; sizes are scaled to the variant's area anyway, so only the aspect ratio matters."""
MAX_RATIO = 16.0
"""Longer side divided by shorter side; beyond it a scaled picture would be a thin strip."""


def snap_size(height: int, width: int, area: int, unit: int = UNIT) -> tuple[int, int]:
    """Scale (height, width) to `area` pixels and round each side to a multiple of `unit`.

    Rounding half to even is part of the rule, since the official code uses Python's `round`.
    """
    scale = math.sqrt(area / (height * width))
    return _nearest_side(round(height * scale), unit), _nearest_side(round(width * scale), unit)


def _nearest_side(length: int, unit: int) -> int:
    return max(unit, round(length / unit) * unit)


def named_sizes(default: tuple[int, int], area: int, unit: int = UNIT) -> dict[str, tuple[int, int]]:
    """Aspect ratio -> (height, width) of a clip; the variant's default size is included.

    Args:
        default: the variant's (height, width).
        area: the variant's number of pixels.
        unit: what sides are multiples of.
    """
    sizes = {name: snap_size(*ratio, area, unit) for name, ratio in ASPECT_RATIOS.items()}
    own = snap_size(*default, area, unit)
    return sizes if own in sizes.values() else {OWN_SIZE: own, **sizes}


def distinct_sizes(sizes: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """Leave out ratios whose size another one has that is nearer to it: small clips have fewer sizes than ratios."""

    def distance(name: str) -> float:
        (height, width), (rows, columns) = sizes[name], ASPECT_RATIOS.get(name, sizes[name])
        return abs(math.log(width * rows / (height * columns)))

    nearest = {sizes[name]: name for name in sorted(sizes, key=distance, reverse=True)}
    return {name: size for name, size in sizes.items() if nearest[size] == name}


def picture_size(height: int, width: int, area: int, unit: int = UNIT) -> tuple[int, int]:
    """The clip's (height, width) for a first frame of the given size: nearest to `area`, then to its aspect ratio.

    Candidates are the sizes whose height is within three units of the ideal one, and the simply rounded size.
    """
    ratio = width / height
    units = max(1, area // unit**2)
    ideal = max(1, round(math.sqrt(units / ratio)))
    rows = [max(1, ideal + offset) for offset in range(-3, 4)]
    scale = math.sqrt(area / (height * width))
    candidates = [(row * unit, max(1, round(row * ratio)) * unit) for row in rows]
    candidates.append((max(unit, round(height * scale / unit) * unit), max(unit, round(width * scale / unit) * unit)))
    return min(candidates, key=lambda size: (abs(size[0] * size[1] - area), abs(size[1] / size[0] - ratio)))


def source_size(height: int, width: int, area: int, unit: int = UNIT) -> tuple[int, int]:
    """The clip's (height, width) if the picture of a video of the given size is kept: the same one, if clips have it.

    Any other video is treated like a first frame.
    """
    rounded = abs(height * width - area) <= unit * (height + width) / 2  # each side by half a unit
    fits = rounded and height % unit == width % unit == 0
    return (height, width) if fits else picture_size(height, width, area, unit)


def parse_size(text: str) -> tuple[int, int]:
    """Parse `704x1280` (height x width, as in the official configuration); raises `JobError`."""
    try:
        height, width = (int(side) for side in text.lower().replace("*", "x").replace("×", "x").split("x"))
    except ValueError:
        raise JobError(f"Size {text!r} is not HEIGHTxWIDTH, for example 704x1280.") from None
    check_size(height, width)
    return height, width


def check_size(height: int, width: int) -> None:
    """Raise `JobError` unless clips can be asked for in this size."""
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise JobError(f"Size {height}x{width} is out of range; both sides must be between 1 and {MAX_SIDE} pixels.")
    if max(height, width) > MAX_RATIO * min(height, width):
        raise JobError(
            f"Size {height}x{width} is too long and thin; the longer side may be at most {MAX_RATIO:g} times the "
            "shorter."
        )
