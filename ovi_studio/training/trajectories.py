"""A teacher's trajectories from noise to clips, stored on disk for distillation into a student with few steps.

A file holds one trajectory: `video` (points, channels, frames, height, width) and `audio` (points, length, channels),
from pure noise to the clean latents, at the student's sigmas; and `text` (tokens, dim). Between those points the
teacher takes many steps with guidance. Files are numbered, so several processes can share the work, and an interrupted
process resumes.
"""

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ovi_studio.core.errors import JobError
from ovi_studio.models.transformer import OviTransformer
from ovi_studio.sampling.denoise import Latents, Schedule, Step, denoise, draw_noise
from ovi_studio.sampling.solvers import TRAIN_TIMESTEPS, shifted
from ovi_studio.training.flow import Unconditional


@dataclass(frozen=True, kw_only=True, slots=True)
class Teacher:
    """How the teacher samples.

    Raises:
        JobError: the timesteps do not decrease from at most 1000, or `steps` is not a multiple of their number.
    """

    timesteps: tuple[float, ...] = (1000.0, 937.5, 833.3333, 625.0)
    """Timesteps of the student; the teacher's lie between them."""
    steps: int = 48
    """Total steps of the teacher, a multiple of the student's."""
    shift: float = 5.0
    """Shift of the sigmas; before it, the teacher's steps are equally spaced between two points."""
    video_guidance: float = 4.0
    audio_guidance: float = 3.0
    skip_block: int | None = None

    def __post_init__(self) -> None:
        falling = all(after < before for before, after in itertools.pairwise(self.timesteps))
        if not self.timesteps or not falling or self.timesteps[0] > TRAIN_TIMESTEPS or self.timesteps[-1] <= 0:
            raise JobError("The student's timesteps must decrease from at most 1000, as in 1000,937.5,833.3,625.")
        if self.steps < len(self.timesteps) or self.steps % len(self.timesteps):
            raise JobError(
                f"The teacher's {self.steps} steps must be a multiple of the student's {len(self.timesteps)}; "
                f"use {max(1, round(self.steps / len(self.timesteps))) * len(self.timesteps)}."
            )

    @property
    def substeps(self) -> int:
        """The teacher's steps in each step of the student."""
        return self.steps // len(self.timesteps)

    @property
    def sigmas(self) -> list[float]:
        """Sigmas of the points; the last point is clean."""
        return [*(timestep / TRAIN_TIMESTEPS for timestep in self.timesteps), 0.0]

    def schedule(self) -> Schedule:
        """Return a UniPC schedule that divides every step of the student equally, before the shift."""
        points = [_unshifted(sigma, self.shift) for sigma in self.sigmas]
        steps = [np.linspace(start, end, self.substeps + 1)[:-1] for start, end in itertools.pairwise(points)]
        sigmas = shifted(np.concatenate(steps), self.shift)
        return Schedule("unipc", self.steps, self.shift, tuple((sigmas * TRAIN_TIMESTEPS).tolist()))


@torch.no_grad()
def compute_trajectory(
    transformer: OviTransformer, teacher: Teacher, text: Tensor, unconditional: Unconditional, noise: Latents
) -> tuple[Tensor, Tensor]:
    """Return one trajectory: video (points, channels, frames, height, width) and audio (points, length, channels)."""
    scales = teacher.video_guidance, teacher.audio_guidance
    guidance = unconditional.guidance(transformer, text, *scales, teacher.skip_block)
    points = [noise]

    def keep(step: Step) -> None:
        if step.index % teacher.substeps == 0:
            points.append(step.latents)

    denoise(transformer, noise, guidance, teacher.schedule(), on_step=keep)
    return torch.stack([point.video for point in points]), torch.stack([point.audio for point in points])


def write_trajectories(
    transformer: OviTransformer,
    teacher: Teacher,
    texts: Sequence[Tensor],
    unconditional: Unconditional,
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    folder: Path,
    *,
    seed: int = 0,
    part: tuple[int, int] = (1, 1),
    on_done: Callable[[int, int], None] = lambda done, of: None,
) -> None:
    """Compute the trajectory of every text that has no file yet.

    Args:
        texts: embeddings (tokens, dim); the noise of each is seeded by its index.
        shapes: shapes of the video and audio latents.
        part: (i, n) computes only the i-th of n interleaved parts of the texts.
        on_done: called after every text with the number of existing files of this part and the total.
    """
    folder.mkdir(parents=True, exist_ok=True)
    number, parts = part
    own = range(number - 1, len(texts), parts)
    device = next(transformer.parameters()).device
    for count, index in enumerate(own, start=1):
        path = folder / f"{index:06}.safetensors"
        if not path.is_file():
            noise = draw_noise(*shapes, seed * 1_000_003 + index, device, torch.float32)
            video, audio = compute_trajectory(transformer, teacher, texts[index], unconditional, noise)
            tensors = {"video": video.cpu(), "audio": audio.cpu(), "text": texts[index].float().cpu().contiguous()}
            unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
            save_file(tensors, unfinished)
            unfinished.replace(path)
        on_done(count, len(own))


@dataclass(frozen=True)
class Trajectories:
    """A batch of trajectories."""

    video: Tensor
    """(batch, points, channels, frames, height, width)"""
    audio: Tensor
    """(batch, points, length, channels)"""
    text: Tensor
    """(batch, tokens, dim), zero-padded"""


class TrajectoryDataset:
    """The trajectories in a folder.

    Raises:
        JobError: there is none, one is damaged, or one does not have `points` points.
    """

    def __init__(self, folder: Path, points: int) -> None:
        self.paths = sorted(folder.glob("*.safetensors"))
        if not self.paths:
            raise JobError(f"There is no trajectory in {folder}; compute the teacher's trajectories first.")
        for path in self.paths:
            try:
                with safe_open(path, framework="pt") as file:
                    found = file.get_slice("video").get_shape()[0]
            except (OSError, SafetensorError) as error:
                raise JobError(f"{path} is damaged ({error}); delete it and compute it again.") from error
            if found != points:
                raise JobError(
                    f"{path} has {found} points instead of {points}; use another folder for other timesteps."
                )

    def __len__(self) -> int:
        return len(self.paths)

    def batch(self, indices: Sequence[int]) -> Trajectories:
        """Return the trajectories with these indices."""
        read = [self._read(index) for index in indices]
        videos, audios, texts = zip(*read, strict=True)
        return Trajectories(torch.stack(videos), torch.stack(audios), pad_sequence(list(texts), batch_first=True))

    def _read(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        with safe_open(self.paths[index], framework="pt") as file:
            video, audio, text = (file.get_tensor(name) for name in ("video", "audio", "text"))
        return video, audio, text


def _unshifted(sigma: float, shift: float) -> float:
    """Invert `sampling.solvers.shifted`."""
    return sigma / (shift - (shift - 1) * sigma)
