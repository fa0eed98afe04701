"""The ways that a teacher walks from noise to clips, kept on disk for a student with few steps.

A file holds one way: `video` (points, channels, frames, height, width) and `audio` (points, length, channels), from
pure noise to the clean latents, at the student's sigmas; and `text` (tokens, dim). The teacher walks with guidance in
many steps between those points. Files are numbered, so several processes can share the work and an interrupted one
goes on.
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
    """How the teacher walks. Raises `JobError` when the timesteps do not fall from at most 1000."""

    timesteps: tuple[float, ...] = (1000.0, 937.5, 833.3333, 625.0)
    """Of the student; the teacher's are between them."""
    steps: int = 48
    """In all; a multiple of the student's."""
    shift: float = 5.0
    """In whose measure the teacher's steps are equal."""
    video_guidance: float = 4.0
    audio_guidance: float = 3.0
    skip_block: int | None = None

    def __post_init__(self) -> None:
        falling = all(after < before for before, after in itertools.pairwise(self.timesteps))
        if not self.timesteps or not falling or self.timesteps[0] > TRAIN_TIMESTEPS or self.timesteps[-1] <= 0:
            raise JobError("The student's timesteps must fall from at most 1000, for example 1000,937.5,833.3,625.")
        if self.steps < len(self.timesteps) or self.steps % len(self.timesteps):
            raise JobError(
                f"The teacher's {self.steps} steps must be a multiple of the student's {len(self.timesteps)}; "
                f"use {max(1, round(self.steps / len(self.timesteps))) * len(self.timesteps)}."
            )

    @property
    def sigmas(self) -> list[float]:
        """Of the points, the last of which is clean."""
        return [*(timestep / TRAIN_TIMESTEPS for timestep in self.timesteps), 0.0]

    def schedule(self) -> Schedule:
        """UniPC over steps that divide every span of the student equally, before the shift."""
        points = [_unshifted(sigma, self.shift) for sigma in self.sigmas]
        pieces = self.steps // len(self.timesteps)
        spans = [np.linspace(*span, pieces + 1)[:-1] for span in itertools.pairwise(points)]
        sigmas = shifted(np.concatenate(spans), self.shift)
        return Schedule("unipc", self.steps, self.shift, tuple((sigmas * TRAIN_TIMESTEPS).tolist()))


@torch.no_grad()
def walk(
    transformer: OviTransformer, teacher: Teacher, text: Tensor, unconditional: Unconditional, noise: Latents
) -> tuple[Tensor, Tensor]:
    """The points of one way: video (points, channels, frames, height, width) and audio (points, length, channels)."""
    scales = teacher.video_guidance, teacher.audio_guidance
    guidance = unconditional.guidance(transformer, text, *scales, teacher.skip_block)
    points = [noise]
    pieces = teacher.steps // len(teacher.timesteps)

    def keep(step: Step) -> None:
        if step.index % pieces == 0:
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
    """Walk for every text that has no file yet.

    Args:
        texts: embeddings (tokens, dim); the noise of each follows from its place.
        shapes: of the latents of video and audio.
        part: (which, of how many): every how-manieth text is this process's.
        on_done: called with the number of files of this part that are there, and that there will be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    which, of = part
    own = range(which - 1, len(texts), of)
    device = next(transformer.parameters()).device
    for count, index in enumerate(own, start=1):
        path = folder / f"{index:06}.safetensors"
        if not path.is_file():
            noise = draw_noise(*shapes, seed * 1_000_003 + index, device, torch.float32)
            video, audio = walk(transformer, teacher, texts[index], unconditional, noise)
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
    """(batch, tokens, dim), zero behind the end of each"""


class TrajectoryDataset:
    """The trajectories in a folder; raises `JobError` if there is none or one has another number of points."""

    def __init__(self, folder: Path, points: int) -> None:
        self.paths = sorted(folder.glob("*.safetensors"))
        if not self.paths:
            raise JobError(f"There is no trajectory in {folder}; let the teacher walk first.")
        for path in self.paths:
            try:
                with safe_open(path, framework="pt") as file:
                    found = file.get_slice("video").get_shape()[0]
            except (OSError, SafetensorError) as error:
                raise JobError(f"{path} is damaged ({error}); delete it and let the teacher walk again.") from error
            if found != points:
                raise JobError(
                    f"{path} has {found} points instead of {points}; use another folder for other timesteps."
                )

    def __len__(self) -> int:
        return len(self.paths)

    def batch(self, indices: Sequence[int]) -> Trajectories:
        """These trajectories."""
        read = [self._read(index) for index in indices]
        videos, audios, texts = zip(*read, strict=True)
        return Trajectories(torch.stack(videos), torch.stack(audios), pad_sequence(list(texts), batch_first=True))

    def _read(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        with safe_open(self.paths[index], framework="pt") as file:
            video, audio, text = (file.get_tensor(name) for name in ("video", "audio", "text"))
        return video, audio, text


def _unshifted(sigma: float, shift: float) -> float:
    return sigma / (shift - (shift - 1) * sigma)
