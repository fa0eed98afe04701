"""Training of the refiner, which redraws what the rest of the video VAE decodes, on stored frames of each clip."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from ovi_studio.demo.decoder_clips import DecoderClips
from ovi_studio.demo.drawing import autocast, compare, outline_weight
from ovi_studio.demo.fit import NamedLosses, TrainingBudget, fit
from ovi_studio.demo.scenes import FRAMES, SIDE, Scene, path, render
from ovi_studio.demo.sheets import SheetRow
from ovi_studio.models import video_vae
from ovi_studio.models.refiner import Refiner
from ovi_studio.models.video_vae import from_bytes, to_bytes

_STORED = 24
"""Frames of a clip. The first is always among them: it is unlike others, and may have been given."""
_BATCH, _CROP = 12, 96
"""Frames of a step, and the side of the part of a frame that is compared, in pixels; an object fits into it."""
_FIRST, _ANYWHERE, _SHIFT = 0.1, 0.15, 12.0
"""Fractions of the parts that are of first frames and anywhere; how far the others are off the object, in pixels."""
_OTHER_COLOURS = 0.3
"""Fraction of the parts in colours that no scene has: outlines are to be learned, and not colours."""
_SHOWN = 4
"""Parts on a sample sheet."""

DrawPart = Callable[[np.random.Generator], tuple[Tensor, Tensor, float]]
"""Returns a part of a frame as it was decoded, the same of the scene (3, height, width), and its weight."""


def train_refiner(vae: AutoencoderKLWan, clips: DecoderClips, budget: TrainingBudget, folder: Path, seed: int) -> None:
    """Train the refiner of a video VAE; everything else of it stays."""
    vae.requires_grad_(False)
    folder.mkdir(parents=True, exist_ok=True)
    numbers = [_frame_numbers(clip, seed) for clip in range(len(clips.paths))]
    stored = folder / "frames.npy"
    if not stored.is_file():
        _store_frames(vae, clips, numbers, stored)
    frames, scenes = np.load(stored, mmap_mode="r"), [clips.read(path)[1] for path in clips.paths]
    draw_part = partial(_draw_part, frames=frames, numbers=numbers, scenes=scenes, granularity=vae.refiner.granularity)
    losses = partial(_losses, draw_part=draw_part, seed=seed)
    fit(vae.refiner.requires_grad_(True), losses, budget, folder, partial(_rows, draw_part=draw_part, seed=seed))
    stored.unlink()


def _frame_numbers(clip: int, seed: int) -> np.ndarray:
    """Return the frames of a clip that are stored, the first and others."""
    others = np.random.default_rng([seed, clip]).choice(FRAMES - 1, _STORED - 1, replace=False)
    return np.concatenate([[0], np.sort(others) + 1])


@torch.no_grad()
def _store_frames(vae: AutoencoderKLWan, clips: DecoderClips, numbers: Sequence[np.ndarray], target: Path) -> None:
    """Write decoded frames that are not refined, uint8 (clips, frames, height, width, 3)."""
    part = target.with_name(f"{target.name}.part")
    stored = np.lib.format.open_memmap(part, "w+", np.uint8, (len(clips.paths), _STORED, SIDE, SIDE, 3))
    device = next(vae.parameters()).device
    refiner, vae.refiner = vae.refiner, None
    for index, file in enumerate(clips.paths):
        latents = video_vae.normalised(vae, clips.read(file)[0].to(device))
        stored[index] = to_bytes(video_vae.decode_whole(vae, latents))[numbers[index]]
    vae.refiner = refiner
    part.replace(target)


def _draw_part(
    random: np.random.Generator,
    *,
    frames: np.ndarray,
    numbers: Sequence[np.ndarray],
    scenes: Sequence[Scene],
    granularity: int,
) -> tuple[Tensor, Tensor, float]:
    clip = int(random.integers(len(frames)))
    index = 0 if random.random() < _FIRST else int(random.integers(1, _STORED))
    number, scene = int(numbers[clip][index]), scenes[clip]
    middle = path(scene)[number] if random.random() >= _ANYWHERE else random.random(2)
    corner = SIDE * middle + random.uniform(-_SHIFT, _SHIFT, 2) - _CROP / 2
    # The refiner halves the same pixels as in whole frames.
    left, top = np.clip(np.rint(corner), 0, SIDE - _CROP).astype(int) // granularity * granularity
    part = (..., slice(top, top + _CROP), slice(left, left + _CROP))
    decoded = from_bytes(np.array(frames[clip, index : index + 1]))[0, :, 0]
    drawn = from_bytes(render(scene, slice(number, number + 1)))[0]
    weight = outline_weight(drawn)
    before, after = decoded[part], drawn[:, 0][part]
    if random.random() < 0.5:
        before, after = before.flip(-1), after.flip(-1)
    if random.random() < _OTHER_COLOURS:
        order = torch.from_numpy(random.permutation(3))
        signs = torch.from_numpy(random.choice([-1.0, 1.0], (3, 1, 1)).astype(np.float32))
        before, after = signs * before[order], signs * after[order]
    return before, after, weight


def _losses(refiner: Refiner, step: int, *, draw_part: DrawPart, seed: int) -> NamedLosses:
    random = np.random.default_rng([seed, step])
    device = next(refiner.parameters()).device
    before, after, weights = zip(*(draw_part(random) for _ in range(_BATCH)), strict=True)
    decoded = torch.stack(before).to(device)
    with autocast(device):
        # Half of the parts are for the second pass, which gets what the first has drawn.
        with torch.no_grad():
            once = refiner.redraw(decoded[: _BATCH // 2]).float()
        refined = refiner.redraw(torch.cat((once, decoded[_BATCH // 2 :])))
    return compare(refined, torch.stack(after).to(device), torch.tensor(weights, device=device).view(-1, 1, 1, 1))


def _rows(refiner: Refiner, *, draw_part: DrawPart, seed: int) -> list[SheetRow]:
    """Show parts as they were decoded, refined and drawn."""
    random = np.random.default_rng(seed)
    device = next(refiner.parameters()).device
    rows = []
    for _ in range(_SHOWN):
        before, after, _ = draw_part(random)
        shown = (before, refiner(before.unsqueeze(0).to(device))[0].clamp(-1, 1).cpu(), after)
        rows.append(SheetRow("decoded, refined, drawn", to_bytes(torch.stack(shown, dim=1))))
    return rows
