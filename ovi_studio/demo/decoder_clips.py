"""Clips that the video decoder is trained on: latents of encoded scenes, most of them regenerated, kept on disk.

A file is named after its number and the encoded scene, so it need hold nothing but the latents.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.torch import load_file, save_file
from torch import Tensor

from ovi_studio.demo.encoded import EncodedScenes
from ovi_studio.demo.scenes import Scene

Regenerate = Callable[[Path, np.random.Generator], Tensor]
"""Returns latents (channels, frames, height, width) of the scene encoded in a file."""


@dataclass(frozen=True)
class DecoderClips:
    """Latents in a folder, and the scenes that they are of."""

    folder: Path
    encoded: EncodedScenes

    def write(self, regenerate: Regenerate, numbers: range) -> None:
        """Write the latents with these numbers that are not there yet."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for number in numbers:
            random = np.random.default_rng([self.encoded.seed, number])
            source = self.encoded.draw_evenly(random)
            target = self.folder / f"{number:05}-{source.stem}.safetensors"
            if target.is_file():
                continue
            part = target.with_name(f"{target.name}.part")
            save_file({"video": regenerate(source, random).contiguous()}, part)
            part.replace(target)
            if number % 100 < numbers.step:
                print(f"{number} of {numbers.stop} clips regenerated.", flush=True)

    @functools.cached_property
    def paths(self) -> list[Path]:
        return sorted(self.folder.glob("*.safetensors"))

    def read(self, path: Path) -> tuple[Tensor, Scene]:
        """Return the latents (channels, frames, height, width) in a file, and their scene."""
        source = self.encoded.folder / f"{path.stem.split('-')[1]}.safetensors"
        return load_file(path)["video"], self.encoded.scene(source)

    def draw(self, random: np.random.Generator) -> tuple[Tensor, Scene]:
        """Return the latents and the scene of a random clip."""
        return self.read(self.paths[random.integers(len(self.paths))])
