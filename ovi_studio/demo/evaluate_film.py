"""Clips that keep a part of a real scene, made and judged: new sound, new picture, a span of time, continued shots.

Every scene is drawn and written as an mp4, from which the clips are made as from anybody's file. Two lines of the table
say what the figures are worth: whole clips of the same prompts, and chance, where a new half is judged with the kept
half of the next scene of the same motion. A continued shot starts from the last frame of a scene that stands still or
goes round in a circle, since others end at an edge. Whether a reference lends its sound to what follows is asked with
prompts that name no sound.
"""

import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from PIL import Image

from ovi_studio.core.clip import Clip
from ovi_studio.core.errors import JobError
from ovi_studio.core.spans import ALL, Span, all_but, kept_of_picture
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.variants import FRAMES_PER_LATENT, SAMPLE_RATE, find_variant
from ovi_studio.demo.evaluate import EvaluationPrompt, base_spec, prompts, settings
from ovi_studio.demo.judges import judge, keeps_first_frame, measure
from ovi_studio.demo.scenes import Motion, Scene, Sound, render, synthesise
from ovi_studio.media.clip_files import write_clip
from ovi_studio.media.foreign import read_picture
from ovi_studio.runtime.clip_runner import ClipRunner

SPAN = (1.0, 2.0)
"""Seconds that are made again, of both halves."""
REFERENCE = 1.0
"""Seconds of a reference sound that is kept at the start of a clip."""
_UNNAMED = "unnamed sound"
_AFTER_REFERENCE = "unnamed sound, after a second of a reference"
_LASTING_SOUNDS = (Sound.LOW_TONE, Sound.HIGH_TONE, Sound.WIND)
_MOTIONS_TO_CONTINUE = (Motion.STILL, Motion.CIRCLE)
_COLUMNS = ("colour", "shape", "background", "motion", "sound", "impacts", "kept", "seam")
_HEADINGS = {"impacts": "impacts within 80 ms", "kept": "keeps colour and place", "seam": "seam within the clip's own"}


@dataclass(frozen=True, eq=False)
class FilmRow:
    """One judged clip."""

    kind: str
    answers: Mapping[str, float | None]
    """Column -> 1 for right and 0 for wrong, or a fraction; None or missing: not judged."""


@dataclass(frozen=True, eq=False)
class _Made:
    prompt: EvaluationPrompt
    drawn: np.ndarray
    clip: Clip


Judge = Callable[[_Made], dict[str, Any]]


def evaluate_film(
    runner: ClipRunner,
    variant_name: str,
    setting: str,
    count: int,
    on_row: Callable[[FilmRow], None],
    kinds: Collection[str] | None = None,
) -> list[FilmRow]:
    """Make and judge the clips of so many prompts with a setting of `evaluate.settings`.

    Args:
        kinds: those of `KINDS` to make; None: all. Raises `JobError` for others.
    """
    wanted = KINDS if kinds is None else tuple(kinds)
    if unknown := set(wanted) - set(KINDS):
        raise JobError(f"There are no clips of the kind {min(unknown)!r}; choose from {', '.join(KINDS)}.")
    base = base_spec(variant_name, settings()[setting])
    variant = find_variant(variant_name, runner.options.checkpoints)
    rows: list[FilmRow] = []

    def keep(kind: str, answers: Mapping[str, Any]) -> None:
        rows.append(FilmRow(kind, answers))
        on_row(rows[-1])

    halves: dict[str, list[_Made]] = {"new sound": [], "new picture": []}
    with tempfile.TemporaryDirectory(prefix="ovi-film-") as folder:
        for prompt in prompts(count):
            source = _write_scene(prompt, base, Path(folder))
            drawn = read_picture(source, *variant.default_size, variant.frames).frames
            for kind, spec in _specs(prompt, base, source, drawn).items():
                if kind not in wanted:
                    continue
                made = _Made(prompt, drawn, runner.run(spec))
                keep(kind, _JUDGES[kind](made))
                if kind in halves:
                    halves[kind].append(made)
    for kind, made_clips in halves.items():
        for one, other in _strangers(made_clips):
            keep(f"{kind}, chance", _JUDGES[kind](_exchanged(kind, one, other)))
    return rows


def film_table(rows: Sequence[FilmRow]) -> str:
    """Return a Markdown table with a line for each kind of clip."""
    headings = ["clips", "number", *(_HEADINGS.get(name, name) for name in _COLUMNS)]
    lines = [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    for kind in dict.fromkeys(row.kind for row in rows):
        own = [row.answers for row in rows if row.kind == kind]
        lines.append(f"| {' | '.join([kind, str(len(own)), *(_share(own, name) for name in _COLUMNS)])} |")
    return "\n".join(lines)


def _share(rows: Sequence[Mapping[str, float | None]], column: str) -> str:
    found = [float(value) for answers in rows if (value := answers.get(column)) is not None]
    return f"{100 * fmean(found):.0f}%" if found else ""


def _write_scene(prompt: EvaluationPrompt, base: ClipSpec, folder: Path) -> Path:
    scene = prompt.scene
    clip = Clip(replace(base, prompt=prompt.text), render(scene), synthesise(scene))
    return write_clip(clip, folder, f"scene-{prompt.index}")


def _specs(prompt: EvaluationPrompt, base: ClipSpec, source: Path, drawn: np.ndarray) -> dict[str, ClipSpec]:
    """Kind of clip -> what is made for a scene of which `source` is the file and `drawn` the picture."""
    whole = replace(base, prompt=prompt.text, seed=1000 + prompt.index)
    rest = all_but(*SPAN)
    specs = {
        "whole clip": whole,
        "new sound": replace(whole, source=source, keep_picture=ALL),
        "new picture": replace(whole, source=source, keep_sound=ALL),
        "span of time": replace(whole, source=source, keep_picture=rest, keep_sound=rest),
    }
    if prompt.scene.motion in _MOTIONS_TO_CONTINUE:
        picture = source.with_suffix(".png")
        Image.fromarray(drawn[-1]).save(picture)
        specs["continued shot"] = replace(whole, image=picture)
    if prompt.scene.sound in _LASTING_SOUNDS:
        unnamed = replace(whole, prompt=prompt.text.split("<AUDCAP>")[0].strip())
        specs[_UNNAMED] = unnamed
        specs[_AFTER_REFERENCE] = replace(unnamed, source=source, keep_sound=(Span(0.0, REFERENCE),))
    return specs


def _judge_rest(made: _Made) -> dict[str, Any]:
    """Whether what follows the reference sounds like it."""
    rest = made.clip.samples[round(REFERENCE * SAMPLE_RATE) :]
    return {"sound": measure(np.asarray(made.clip.frames), rest).sound == made.prompt.scene.sound}


def _judged(clip: Clip, scene: Scene) -> dict[str, Any]:
    return asdict(judge(measure(np.asarray(clip.frames), clip.samples), scene))


def _judge_whole(made: _Made) -> dict[str, Any]:
    return _judged(made.clip, made.prompt.scene)


def _judge_sound(made: _Made) -> dict[str, Any]:
    found = _judged(made.clip, made.prompt.scene)
    return {name: found[name] for name in ("sound", "impacts")}


def _judge_picture(made: _Made) -> dict[str, Any]:
    found = _judged(made.clip, made.prompt.scene)
    return {name: found[name] for name in ("colour", "shape", "background", "motion", "impacts")}


def _judge_span(made: _Made) -> dict[str, Any]:
    return _judged(made.clip, made.prompt.scene) | {"seam": seams_within(np.asarray(made.clip.frames))}


def _judge_continued(made: _Made) -> dict[str, Any]:
    measured = measure(np.asarray(made.clip.frames), made.clip.samples)
    found = asdict(judge(measured, made.prompt.scene))
    kept = keeps_first_frame(measured, made.drawn[-1], made.prompt.scene)
    return {name: found[name] for name in ("colour", "shape", "background", "motion", "sound")} | {"kept": kept}


_JUDGES: Mapping[str, Judge] = {
    "whole clip": _judge_whole,
    "new sound": _judge_sound,
    "new picture": _judge_picture,
    "span of time": _judge_span,
    "continued shot": _judge_continued,
    _UNNAMED: _judge_rest,
    _AFTER_REFERENCE: _judge_rest,
}
KINDS = tuple(_JUDGES)
"""Kinds of clips; those with one new half are also judged by chance."""


def seams_within(frames: np.ndarray) -> bool:
    """Whether no frame at an edge of `SPAN` differs from the one before by more than frames elsewhere do.

    Compared are mean absolute differences of uint8 (T, H, W, 3), as the maximum of all frames that are not at an edge.
    """
    changes = np.abs(np.diff(frames.astype(np.int16), axis=0)).mean(axis=(1, 2, 3))
    latents = 1 + (len(frames) - 1) // FRAMES_PER_LATENT
    made = np.flatnonzero(~np.array(kept_of_picture(all_but(*SPAN), latents)))
    # Latent frame k ends with frame 4k: changes[4k] is that into the next latent frame.
    edges = [FRAMES_PER_LATENT * (made[0] - 1), FRAMES_PER_LATENT * made[-1]]
    return bool(changes[edges].max() <= np.delete(changes, edges).max())


def _strangers(made: Sequence[_Made]) -> Iterator[tuple[_Made, _Made]]:
    """Yield each clip with the next one of another scene of the same motion."""
    for motion in Motion:
        same = [one for one in made if one.prompt.scene.motion is motion]
        if len(same) > 1:
            yield from zip(same, [*same[1:], same[0]], strict=True)


def _exchanged(kind: str, one: _Made, other: _Made) -> _Made:
    """Return the new half of `other` with the kept half of `one`."""
    frames, samples = (one, other) if kind == "new sound" else (other, one)
    return replace(one, clip=replace(one.clip, frames=frames.clip.frames, samples=samples.clip.samples))
