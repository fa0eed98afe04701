"""Judges of clips: whether a clip looks and sounds like the requested scene. Plain signal processing.

`measure` measures a clip without knowing the scene; `judge` compares the measurement with a scene. What cannot be
recognised is None, which is never right. Imports no torch.
"""

from dataclasses import dataclass

import numpy as np

from ovi_studio.core.variants import FRAME_RATE
from ovi_studio.demo import motions, scenes
from ovi_studio.demo.hearing import AudioMeasurement, SoundKind, measure_audio, semitones
from ovi_studio.demo.scenes import Background, Colour, Motion, Scene, Shape, Sound
from ovi_studio.demo.seeing import PRESENCE, measure_video

IN_SYNC = 0.08
"""Maximum seconds between the visible and the audible part of an impact."""
PLACE_TOLERANCE = 0.06
"""Maximum distance of an object from its position in the given first frame, as a fraction of the frame."""
_PITCH_TOLERANCE = 3.0
"""Maximum pitch error in semitones; the scenes' two steady tones are 24 apart."""
_MIN_FOLLOWING = 0.8
"""Minimum correlation of the pitch with the object's height."""


@dataclass(frozen=True, eq=False)
class ClipMeasurement:
    """What a clip shows and sounds like."""

    colour: Colour | None
    shape: Shape | None
    background: Background | None
    motion: Motion | None
    sound: Sound | None
    pitch: float | None
    """Median pitch in hertz, None if no tone is heard."""
    presence: float
    """Fraction of the frames that show exactly one object."""
    sharpness: float
    """Width of a drawn shape's edges relative to that of the object's edges, at most 1; 0 without a shape."""
    centres: np.ndarray
    """(T, 2), x and y of the object as fractions of the frame; NaN unless there is exactly one object."""
    visible_impacts: np.ndarray
    """Times in seconds."""
    audible_impacts: np.ndarray
    """Times in seconds."""

    @property
    def gaps(self) -> np.ndarray:
        """Seconds from each visible impact to the nearest audible one; infinite if there is none."""
        if not len(self.audible_impacts):
            return np.full(len(self.visible_impacts), np.inf)
        between = self.audible_impacts[None] - self.visible_impacts[:, None]
        return np.take_along_axis(between, np.abs(between).argmin(axis=1)[:, None], axis=1)[:, 0]


@dataclass(frozen=True)
class ClipVerdict:
    """Which properties of a clip match its scene."""

    colour: bool
    shape: bool
    background: bool
    motion: bool
    sound: bool
    impacts: float | None
    """Fraction of the impacts that are seen and heard within `IN_SYNC`; None for scenes without impacts."""


def measure(frames: np.ndarray, samples: np.ndarray) -> ClipMeasurement:
    """Measure frames, uint8 (T, H, W, 3) at `FRAME_RATE`, and samples, float32 (N,) at `SAMPLE_RATE`."""
    video, audio = measure_video(frames), measure_audio(samples)
    motion = motions.kind_of_motion(video.centres) if video.presence >= PRESENCE else None
    return ClipMeasurement(
        colour=video.colour,
        shape=video.shape,
        background=video.background,
        motion=motion,
        sound=_sound(audio, video.centres),
        pitch=audio.pitch,
        presence=video.presence,
        sharpness=video.sharpness,
        centres=video.centres,
        visible_impacts=motions.contacts(video.centres),
        audible_impacts=audio.hits,
    )


def judge(measured: ClipMeasurement, scene: Scene) -> ClipVerdict:
    """Compare a clip with the requested scene."""
    return ClipVerdict(
        colour=measured.colour == scene.colour,
        shape=measured.shape == scene.shape,
        background=measured.background == scene.background,
        motion=measured.motion == scene.motion,
        sound=measured.sound == scene.sound,
        impacts=_in_sync(measured, len(scenes.impacts(scene))) if scene.motion is Motion.BOUNCE else None,
    )


def keeps_first_frame(measured: ClipMeasurement, first_frame: np.ndarray, scene: Scene) -> bool:
    """Whether the object of a picture, uint8 (H, W, 3), keeps its colour throughout and its position at first.

    In the first second it may move away from its position no faster than the maximum speed of the scene's object.
    """
    picture = measure_video(first_frame[None])
    centres = measured.centres[:FRAME_RATE]
    distances = np.linalg.norm(centres - picture.centres[0], axis=1)
    speed = np.linalg.norm(np.diff(scenes.path(scene), axis=0), axis=1).max()
    allowed = PLACE_TOLERANCE + speed * np.arange(len(centres))
    in_place = (distances <= allowed).mean() >= PRESENCE and distances[0] <= PLACE_TOLERANCE
    return bool(picture.colour is not None and measured.colour == picture.colour and in_place)


def _sound(audio: AudioMeasurement, centres: np.ndarray) -> Sound | None:
    match audio.kind:
        case SoundKind.SILENCE:
            return Sound.SILENCE
        case SoundKind.HITS:
            return Sound.IMPACT
        case SoundKind.WIND:
            return Sound.WIND
        case SoundKind.STEADY_TONE:
            return None if audio.pitch is None else _steady_tone(audio.pitch)
        case SoundKind.GLIDING_TONE:
            return Sound.FOLLOWING_TONE if _follows(audio, centres) else None
    return None


def _steady_tone(pitch: float) -> Sound | None:
    tones = {Sound.LOW_TONE: scenes.LOW_PITCH, Sound.HIGH_TONE: scenes.HIGH_PITCH}
    return next((tone for tone, named in tones.items() if abs(semitones(pitch, named)) < _PITCH_TOLERANCE), None)


def _follows(audio: AudioMeasurement, centres: np.ndarray) -> bool:
    """Whether the pitch rises and falls with the object."""
    visible = np.flatnonzero(np.isfinite(centres[:, 1]))
    tone = np.isfinite(audio.pitches) & (audio.times < len(centres) / FRAME_RATE)
    if len(visible) < FRAME_RATE or tone.sum() < len(tone) / 2:
        return False
    height = (scenes.FLOOR - np.interp(audio.times[tone], visible / FRAME_RATE, centres[visible, 1])) / scenes.FLOOR
    low, high = scenes.FOLLOWING_PITCH
    expected = low * (high / low) ** np.clip(height, 0, 1)
    pitches = audio.pitches[tone]
    error = np.median(np.abs(semitones(pitches, expected)))
    moves = expected.max() > 1.1 * expected.min()
    return bool(
        moves and error < _PITCH_TOLERANCE and np.corrcoef(np.log(expected), np.log(pitches))[0, 1] > _MIN_FOLLOWING
    )


def _in_sync(measured: ClipMeasurement, expected: int) -> float:
    """Return the fraction of the impacts that are both seen and heard; extra impacts count like missing ones."""
    together = int((np.abs(measured.gaps) <= IN_SYNC).sum())
    return together / max(expected, len(measured.visible_impacts), len(measured.audible_impacts))
