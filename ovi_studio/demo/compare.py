"""How far the clips of one setting are from those of another, prompt by prompt with the same seeds.

The judges say whether a clip is still right (`demo.evaluate`); this says whether it is still the same clip.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ovi_studio.core.clip import Clip
from ovi_studio.core.spec import ClipSpec
from ovi_studio.demo.codec_check import log_mel, psnr
from ovi_studio.demo.evaluate import EvaluationTask
from ovi_studio.runtime.clip_runner import ClipRunner


@dataclass(frozen=True)
class ClipDistance:
    """The distance of two clips of the same size and length."""

    error: float
    """Mean squared difference of the pixels, in units of 1/255."""
    mel_distance: float
    """Mean absolute difference of log10 mel magnitudes; 0.05 is a decibel."""
    video_passes: int
    """Passes over the video that the changed clip took."""


def distance(clip: Clip, reference: Clip) -> ClipDistance:
    """Measure the distance of a clip from its reference."""
    frames, expected = np.asarray(clip.frames), np.asarray(reference.frames)
    error = np.square(frames.astype(np.float32) - expected).mean()
    mel = (log_mel(clip.samples) - log_mel(reference.samples)).abs().mean()
    return ClipDistance(float(error), float(mel), clip.record["video_passes"])


def compare(
    runner: ClipRunner, base: ClipSpec, changes: Mapping[str, Any], tasks: list[EvaluationTask]
) -> Iterator[ClipDistance]:
    """Yield the distance of every task's clip with `changes`, fields of `ClipSpec`, from its clip without them."""
    changed = base.with_settings(changes)
    for task in tasks:
        clip, reference = (
            runner.run(replace(spec, prompt=task.prompt.text, seed=task.seed)) for spec in (changed, base)
        )
        yield distance(clip, reference)


def summary(found: list[ClipDistance]) -> str:
    """Return the distances of all clips in a sentence."""
    errors = [each.error for each in found]
    mel = np.mean([each.mel_distance for each in found])
    passes = np.mean([each.video_passes for each in found])
    return (
        f"{len(found)} clips of {passes:.0f} video passes: {psnr(sum(errors) / len(errors)):.1f} dB over all pixels, "
        f"{psnr(max(errors)):.1f} dB in the worst clip; log10 mel distance {mel:.1g}."
    )
