"""Scenes and their latents on disk, which the transformer and the video decoder are trained on.

A file holds one scene as `training.cache` stores clips. Number and seed determine the scene, so the files need not
describe it.
"""

import functools
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan

from ovi_studio.demo.captions import caption
from ovi_studio.demo.embedder import Embedder
from ovi_studio.demo.scenes import Background, Motion, Scene, Shape, draw_training_scene, render, synthesise
from ovi_studio.models import video_vae
from ovi_studio.models.audio_vae import AudioVAE
from ovi_studio.models.mel import mel_spectrogram
from ovi_studio.models.video_vae import from_bytes
from ovi_studio.training.cache import Sample, write_sample


@dataclass(frozen=True)
class SceneEncoder:
    """The models that encode a scene."""

    video: AutoencoderKLWan
    audio: AudioVAE
    text: Embedder

    @torch.no_grad()
    def __call__(self, scene: Scene, caption: str) -> Sample:
        video = video_vae.encode(self.video, from_bytes(render(scene)))[0]
        sound = torch.from_numpy(synthesise(scene)).unsqueeze(0)
        return Sample(video, self.audio.encode(mel_spectrogram(sound))[0].T, self.text([caption]))


@dataclass(frozen=True)
class EncodedScenes:
    """The encoded scenes in a folder, each with one full caption."""

    folder: Path
    seed: int

    def write(self, encoder: SceneEncoder, numbers: range) -> None:
        """Encode the scenes with these numbers that are not encoded yet."""
        for number in numbers:
            name = f"{number:05}"
            if (self.folder / f"{name}.safetensors").is_file():
                continue
            scene, text = self._draw(number)
            write_sample(self.folder, name, encoder(scene, text))
            if number % 100 < numbers.step:
                print(f"{number} of {numbers.stop} scenes encoded.", flush=True)

    @functools.cached_property
    def paths(self) -> list[Path]:
        return sorted(self.folder.glob("*.safetensors"))

    def scene(self, path: Path) -> Scene:
        """Return the scene that is encoded in a file."""
        return self._draw(int(path.stem))[0]

    def caption(self, path: Path) -> str:
        """Return the caption whose embedding is in a file."""
        return self._draw(int(path.stem))[1]

    def draw_evenly(self, random: np.random.Generator) -> Path:
        """Draw a file; all shapes and all difficulties are equally likely.

        A decoder reads no captions and guesses the most frequent shape, so it must see all shapes equally often.
        """
        kinds = list(self._kinds)
        paths = self._kinds[kinds[random.integers(len(kinds))]]
        return paths[random.integers(len(paths))]

    @functools.cached_property
    def _kinds(self) -> dict[tuple[Shape, int], list[Path]]:
        kinds = defaultdict(list)
        for path in self.paths:
            scene = self.scene(path)
            kinds[scene.shape, _difficulty(scene)].append(path)
        return kinds

    def _draw(self, number: int) -> tuple[Scene, str]:
        random = np.random.default_rng([self.seed, number])
        scene = draw_training_scene(random)
        return scene, caption(scene, random, complete=True)


def _difficulty(scene: Scene) -> int:
    """Return 0 to 2: outlines are learned last on circling objects and on the background with the least contrast."""
    return (scene.motion is Motion.CIRCLE) + (scene.background is Background.STONE_FLOOR)
