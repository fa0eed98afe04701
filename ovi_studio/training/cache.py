"""Latents and text embeddings on disk: one safetensors file per clip, memory-mapped when a batch needs it.

A file holds `video` (channels, frames, height, width), `audio` (length, channels) and `text.0`, `text.1`, ... (tokens,
dim), one for each caption, in any floating-point format. Files are written atomically.
"""

import functools
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ovi_studio.core.errors import JobError
from ovi_studio.training.flow import TrainingBatch, Unconditional

SELECTION = "selection.safetensors"
"""File in a work folder that says what its run is trained on, for processes without a text encoder."""


@dataclass(frozen=True)
class Sample:
    """One clip, encoded."""

    video: Tensor
    """Latents (channels, frames, height, width)."""
    audio: Tensor
    """Latents (length, channels)."""
    texts: Sequence[Tensor]
    """Embedding (tokens, dim) of each caption; a batch takes one at random."""


def write_sample(folder: Path, name: str, sample: Sample, metadata: dict[str, str] | None = None) -> Path:
    """Write `<name>.safetensors`, replacing an existing file; returns its path."""
    if not sample.texts:
        raise ValueError("a sample needs at least one caption")
    tensors = {"video": sample.video, "audio": sample.audio}
    tensors |= {f"text.{index}": text for index, text in enumerate(sample.texts)}
    path = folder / f"{name}.safetensors"
    _write(path, tensors, metadata)
    return path


def write_selection(path: Path, names: Sequence[str], unconditional: Unconditional) -> None:
    """Write the names of a run's samples and the embeddings that replace dropped captions."""
    tensors = {"video": unconditional.video, "audio": unconditional.audio}
    _write(path, tensors, {"names": json.dumps(list(names))})


def read_selection(path: Path) -> tuple[list[str], Unconditional]:
    """Read what `write_selection` wrote; raises `JobError` if the file cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            names = json.loads(file.metadata()["names"])
            return names, Unconditional(*(file.get_tensor(name).clone() for name in ("video", "audio")))
    except (OSError, SafetensorError) as error:
        raise JobError(f"{path} cannot be read ({error}); start the training again.") from error


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        # Cloned: a slice would write its whole storage to the file.
        save_file({key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}, part, metadata)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


class LatentDataset:
    """The samples in a folder, sorted by name; all have the same shapes.

    Args:
        names: the samples to use; None uses all.

    Raises:
        JobError: there is no sample, one cannot be read, or one differs in shape from the first.
    """

    def __init__(self, folder: Path, names: Iterable[str] | None = None) -> None:
        if names is None:
            self.paths = sorted(folder.glob("*.safetensors"))
        else:
            self.paths = [folder / f"{name}.safetensors" for name in sorted(set(names))]
        if not self.paths:
            raise JobError(f"There is no encoded clip in {folder}; encode clips first.")
        self._captions = [self._count_captions(path) for path in self.paths]

    def __len__(self) -> int:
        return len(self.paths)

    @functools.cached_property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of the video and audio latents of a sample."""
        with safe_open(self.paths[0], framework="pt") as file:
            video, audio = (tuple(file.get_slice(name).get_shape()) for name in ("video", "audio"))
        return video, audio

    def batch(self, indices: Sequence[int], generator: torch.Generator) -> TrainingBatch:
        """Return the samples with these indices, each with one of its captions at random."""
        draws = torch.rand(len(indices), generator=generator).tolist()
        samples = [self._read(index, draw) for index, draw in zip(indices, draws, strict=True)]
        videos, audios, texts = zip(*samples, strict=True)
        return TrainingBatch(torch.stack(videos), torch.stack(audios), pad_sequence(list(texts), batch_first=True))

    def _read(self, index: int, draw: float) -> tuple[Tensor, Tensor, Tensor]:
        caption = int(draw * self._captions[index])
        with safe_open(self.paths[index], framework="pt") as file:
            video, audio, text = (file.get_tensor(name).float() for name in ("video", "audio", f"text.{caption}"))
        return video, audio, text

    def _count_captions(self, path: Path) -> int:
        """Check a file and return the number of its captions."""
        try:
            with safe_open(path, framework="pt") as file:
                names = set(file.keys())
                captions = len(names - {"video", "audio"})
                if not {"video", "audio", "text.0"} <= names or f"text.{captions - 1}" not in names:
                    raise JobError(f"{path} is not an encoded clip; delete it and encode the clip again.")
                shapes = tuple(tuple(file.get_slice(name).get_shape()) for name in ("video", "audio"))
        except (OSError, SafetensorError) as error:
            raise JobError(f"{path} is damaged ({error}); delete it and encode the clip again.") from error
        if shapes != self.shapes:
            raise JobError(
                f"{path} has latents of shape {shapes}, others have {self.shapes}; encode all clips at one size."
            )
        return captions


class SampleOrder:
    """The endless sequence of sample indices: every epoch is a new permutation, determined by the seed alone."""

    def __init__(self, count: int, seed: int) -> None:
        self._count = count
        self._permutation = functools.lru_cache(maxsize=2)(self._permute)
        self._seed = seed

    def __getitem__(self, span: slice) -> list[int]:
        positions = (divmod(position, self._count) for position in range(span.start, span.stop))
        return [self._permutation(epoch)[offset] for epoch, offset in positions]

    def _permute(self, epoch: int) -> list[int]:
        return torch.randperm(self._count, generator=generator_for(self._seed, "order", epoch)).tolist()


def generator_for(*key: object) -> torch.Generator:
    """Return a CPU generator seeded by the key, identical in every process and on every machine."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
