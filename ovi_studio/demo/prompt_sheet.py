"""A picture of what the embedded model makes of short prompts, for docs/demo-model.md."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ovi_studio.core.variants import read_bundle
from ovi_studio.demo.evaluate import base_spec, clip_runner, settings
from ovi_studio.demo.scenes import SIDE

PROMPTS = (
    *("red ball", "a blue cube", "yellow triangle", "purple square moving right", "a ball, red", "green"),
    *("ring", "bouncing", "Pink donut at night.", "grass, orange, jumping", "a cyan pyramid rises", "turquoise hoop"),
    *("something blue goes round and round", "wind", "a square on concrete", "A purple wedge. It moves left."),
    *("two red balls", "a red ball and a blue cube", "a cat", "a yellow dragon flying up", "navy box sliding left, 4k"),
    *("cinematic shot of a green circle that hops", "a ball says <S>hello<E>", "a small old orange orb on parquet"),
)
_FRAMES, _COLUMNS, _GAP, _TITLE = 4, 3, 6, 18


def draw_prompt_sheet(bundle: Path, setting: str, target: Path) -> None:
    """Make a clip of each prompt and write some frames of all of them as one JPEG file."""
    runner, spec = clip_runner(bundle), base_spec(read_bundle(bundle).name, settings()[setting])
    strips = []
    for seed, prompt in enumerate(PROMPTS):
        frames = np.asarray(runner.run(replace(spec, prompt=prompt, seed=seed)).frames)
        chosen = frames[np.linspace(0, len(frames) - 1, _FRAMES).round().astype(int)]
        strips.append(_strip(prompt, chosen))
    rows = -(-len(strips) // _COLUMNS)
    width, height = strips[0].width + _GAP, strips[0].height
    sheet = Image.new("RGB", (width * _COLUMNS, height * rows), "white")
    for place, strip in enumerate(strips):
        column, row = divmod(place, rows)
        sheet.paste(strip, (column * width, row * height))
    part = target.with_name(f"{target.name}.part")
    sheet.save(part, "JPEG", quality=85)
    part.replace(target)


def _strip(title: str, frames: np.ndarray) -> Image.Image:
    strip = Image.new("RGB", (SIDE * len(frames), SIDE + _TITLE), "white")
    ImageDraw.Draw(strip).text((2, 2), title, fill="black", font=ImageFont.load_default(12))
    for place, frame in enumerate(frames):
        strip.paste(Image.fromarray(frame), (place * SIDE, _TITLE))
    return strip
