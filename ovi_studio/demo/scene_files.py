"""Write scenes as mp4 clips with sound and caption files, a folder to train on. Imports no torch."""

import itertools
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path

import numpy as np

from ovi_studio.core.clip import Clip
from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.demo.captions import caption
from ovi_studio.demo.scenes import (
    SOUNDS_OF,
    Background,
    Colour,
    Motion,
    Scene,
    Shape,
    Sound,
    draw_scene,
    is_held_out,
    render,
    synthesise,
)
from ovi_studio.media.clip_files import write_clip

FIELDS: Mapping[str, type[StrEnum]] = {
    "colour": Colour,
    "shape": Shape,
    "background": Background,
    "motion": Motion,
    "sound": Sound,
}


def parse_only(text: str) -> dict[str, StrEnum]:
    """Parse `colour=red,shape=ball` into fields of a scene; raises `JobError`, which lists the choices."""
    chosen: dict[str, StrEnum] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = (word.strip() for word in part.partition("="))
        if name not in FIELDS:
            raise JobError(f"A scene has no {name!r}; choose from {', '.join(FIELDS)}.")
        if value not in list(FIELDS[name]):
            raise JobError(f"There is no {name} {value!r}; choose one of {', '.join(FIELDS[name])}.")
        chosen[name] = FIELDS[name](value)
    return chosen


def draw_scenes(
    count: int, seed: int = 0, only: Mapping[str, StrEnum] | None = None, *, held_out: bool = False
) -> Iterator[tuple[Scene, str]]:
    """Yield random scenes with captions, determined by the seed; raises `JobError` if no such scene exists."""
    only = only or {}
    if not any(_has(scene, only) and is_held_out(scene) == held_out for scene in _all_combinations()):
        kind = "held-out" if held_out else "training"
        raise JobError(f"No {kind} scene has {_describe(only)}; leave one of them out.")
    random = np.random.default_rng(seed)
    while count > 0:
        scene = draw_scene(random, held_out=held_out)
        if _has(scene, only):
            count -= 1
            yield scene, caption(scene, random)


def write_scenes(
    directory: Path, count: int, seed: int = 0, only: Mapping[str, StrEnum] | None = None, *, held_out: bool = False
) -> Iterator[Path]:
    """Write `scene_<seed>_<number>.mp4`, each with a `.txt` file; yields the paths of the clips.

    Raises `JobError` if no such scene exists or the folder cannot be written.
    """
    for number, (scene, text) in enumerate(draw_scenes(count, seed, only, held_out=held_out)):
        clip = Clip(ClipSpec(prompt=text, variant="demo", seed=scene.seed), render(scene), synthesise(scene))
        path = write_clip(clip, directory, f"scene_{seed}_{number:04d}")
        path.with_suffix(".jpg").unlink()  # the poster is not needed
        path.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")
        yield path


def _all_combinations() -> Iterator[Scene]:
    for colour, shape, background, motion in itertools.product(Colour, Shape, Background, Motion):
        for sound in SOUNDS_OF[motion]:
            yield Scene(colour, shape, background, motion, sound)


def _has(scene: Scene, only: Mapping[str, StrEnum]) -> bool:
    return all(getattr(scene, name) == value for name, value in only.items())


def _describe(only: Mapping[str, StrEnum]) -> str:
    return ", ".join(f"{name} {value}" for name, value in only.items())
