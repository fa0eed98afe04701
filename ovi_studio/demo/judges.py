"""Judges of clips: whether a clip shows and sounds like the scene that was asked for. Plain signal processing.

`measure` says what a clip is, without knowing what it should be; `judge` compares that with a scene. What cannot be
told is None and never right. Nothing here imports torch.
"""

from dataclasses import dataclass

import numpy as np

from ovi_studio.core.variants import FRAME_RATE
from ovi_studio.demo import motions, scenes
from ovi_studio.demo.hearing import AudioMeasurement, SoundKind, measure_audio, semitones
from ovi_studio.demo.scenes import Background, Colour, Motion, Scene, Shape, Sound
from ovi_studio.demo.seeing import PRESENCE, measure_video

IN_SYNC = 0.08
"""Seconds between a visible and an audible impact that are one."""
PLACE_TOLERANCE = 0.06
"""Parts of the frame by which an object may be off the place that its first frame shows."""
_PITCH_TOLERANCE = 3.0
"""Semitones; the scenes' two steady tones are 24 apart."""
_MIN_FOLLOWING = 0.8
"""Correlation of the pitch with the object's height."""


@dataclass(frozen=True, eq=False)
class ClipMeasurement:
    """What was seen and heard in a clip."""

    colour: Colour | None
    shape: Shape | None
    background: Background | None
    motion: Motion | None
    sound: Sound | None
    pitch: float | None
    """Hertz, median over the clip; None if no tone is heard."""
    presence: float
    """Part of the frames that show one single object."""
    centres: np.ndarray
    """(T, 2), x and y of the object as parts of the frame; NaN where there is not one single object."""
    visible_impacts: np.ndarray
    """Seconds."""
    audible_impacts: np.ndarray
    """Seconds."""

    @property
    def gaps(self) -> np.ndarray:
        """Seconds from each visible impact to the nearest audible one; infinite if nothing is heard."""
        if not len(self.audible_impacts):
            return np.full(len(self.visible_impacts), np.inf)
        between = self.audible_impacts[None] - self.visible_impacts[:, None]
        return np.take_along_axis(between, np.abs(between).argmin(axis=1)[:, None], axis=1)[:, 0]


@dataclass(frozen=True)
class ClipVerdict:
    """What of a clip is as its scene says."""

    colour: bool
    shape: bool
    background: bool
    motion: bool
    sound: bool
    impacts: float | None
    """Part of the impacts that are seen and heard within `IN_SYNC`, 0 to 1; None for scenes without impacts."""


def measure(frames: np.ndarray, samples: np.ndarray) -> ClipMeasurement:
    """Measure frames, uint8 (T, H, W, 3) at `FRAME_RATE`, and samples, float32 (N,) at `SAMPLE_RATE`."""
    seen, heard = measure_video(frames), measure_audio(samples)
    motion = motions.kind_of_motion(seen.centres) if seen.presence >= PRESENCE else None
    return ClipMeasurement(
        colour=seen.colour,
        shape=seen.shape,
        background=seen.background,
        motion=motion,
        sound=_sound(heard, seen.centres),
        pitch=heard.pitch,
        presence=seen.presence,
        centres=seen.centres,
        visible_impacts=motions.contacts(seen.centres),
        audible_impacts=heard.hits,
    )


def judge(measured: ClipMeasurement, scene: Scene) -> ClipVerdict:
    """Compare a clip with the scene that was asked for."""
    return ClipVerdict(
        colour=measured.colour == scene.colour,
        shape=measured.shape == scene.shape,
        background=measured.background == scene.background,
        motion=measured.motion == scene.motion,
        sound=measured.sound == scene.sound,
        impacts=_in_sync(measured, len(scenes.impacts(scene))) if scene.motion is Motion.BOUNCE else None,
    )


def keeps_first_frame(measured: ClipMeasurement, first_frame: np.ndarray, scene: Scene) -> bool:
    """Whether the object of a picture, uint8 (H, W, 3), keeps its colour all along, and its place at first.

    In the first second it may leave its place as fast as the scene's own object moves at most, and no faster.
    """
    picture = measure_video(first_frame[None])
    centres = measured.centres[:FRAME_RATE]
    away = np.linalg.norm(centres - picture.centres[0], axis=1)
    speed = np.linalg.norm(np.diff(scenes.path(scene), axis=0), axis=1).max()
    allowed = PLACE_TOLERANCE + speed * np.arange(len(centres))
    in_place = (away <= allowed).mean() >= PRESENCE and away[0] <= PLACE_TOLERANCE
    return bool(picture.colour is not None and measured.colour == picture.colour and in_place)


def _sound(heard: AudioMeasurement, centres: np.ndarray) -> Sound | None:
    match heard.kind:
        case SoundKind.SILENCE:
            return Sound.SILENCE
        case SoundKind.HITS:
            return Sound.IMPACT
        case SoundKind.WIND:
            return Sound.WIND
        case SoundKind.STEADY_TONE:
            named = {Sound.LOW_TONE: scenes.LOW_PITCH, Sound.HIGH_TONE: scenes.HIGH_PITCH}
            return next(
                (s for s, pitch in named.items() if abs(semitones(heard.pitch, pitch)) < _PITCH_TOLERANCE), None
            )
        case SoundKind.GLIDING_TONE:
            return Sound.FOLLOWING_TONE if _follows(heard, centres) else None
    return None


def _follows(heard: AudioMeasurement, centres: np.ndarray) -> bool:
    """Whether the pitch goes up and down with the object."""
    seen = np.flatnonzero(np.isfinite(centres[:, 1]))
    tone = np.isfinite(heard.pitches) & (heard.times < len(centres) / FRAME_RATE)
    if len(seen) < FRAME_RATE or tone.sum() < len(tone) / 2:
        return False
    height = (scenes.FLOOR - np.interp(heard.times[tone], seen / FRAME_RATE, centres[seen, 1])) / scenes.FLOOR
    low, high = scenes.FOLLOWING_PITCH
    expected = low * (high / low) ** np.clip(height, 0, 1)
    pitches = heard.pitches[tone]
    off = np.median(np.abs(semitones(pitches, expected)))
    moves = expected.max() > 1.1 * expected.min()
    return bool(
        moves and off < _PITCH_TOLERANCE and np.corrcoef(np.log(expected), np.log(pitches))[0, 1] > _MIN_FOLLOWING
    )


def _in_sync(measured: ClipMeasurement, expected: int) -> float:
    """Part of the impacts that are both seen and heard; one too many counts as much as one too few."""
    together = int((np.abs(measured.gaps) <= IN_SYNC).sum())
    return together / max(expected, len(measured.visible_impacts), len(measured.audible_impacts))
