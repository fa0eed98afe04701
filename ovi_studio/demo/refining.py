"""Training of the refiner, which redraws what the rest of the video VAE decodes, on stored frames of each clip.

In some of them the object gets another outline (`demo.outlines`): what the refiner is told about the kind of the object
counts only if the frame alone does not show it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor
from torch.nn import functional

from ovi_studio.demo.decoder_clips import DecoderClips
from ovi_studio.demo.drawing import autocast, compare, outline_weight
from ovi_studio.demo.fit import NamedLosses, TrainingBudget, fit
from ovi_studio.demo.outlines import melted, unknown
from ovi_studio.demo.scenes import FRAMES, SIDE, Scene, Shape, draw_outline, path, render
from ovi_studio.demo.sheets import SheetRow
from ovi_studio.models import video_vae
from ovi_studio.models.refiner import Refiner
from ovi_studio.models.video_vae import from_bytes, to_bytes

KINDS = len(Shape) + 1
"""What the refiner tells apart: the shapes of scenes, and then all others."""
_STORED = 24
"""Frames of a clip. The first is always among them: it is unlike others, and may have been given."""
_BATCH, _CROP = 12, 96
"""Frames of a step, and the side of the part of a frame that is compared, in pixels; an object fits into it."""
_FIRST, _ANYWHERE, _SHIFT = 0.1, 0.15, 12.0
"""Fractions of the parts that are of first frames and anywhere; how far the others are off the object, in pixels."""
_UNKNOWN, _MELTED = 0.1, 0.5
"""Fractions of the parts that show a shape of no scene, which is to stay, and one that melts, which is not."""
_BLURS = 4
"""Such outlines are as soft as what is decoded: blurred so often, at most, over 3x3 pixels."""
_AFRESH = 0.5
"""Fraction of the parts that are drawn and blurred instead of decoded: what is left of a scene's own shape, where it
gets another outline, would tell that it got one."""
_FADED = (0.6, 1.0)
"""How much of a melted outline is seen."""
_OTHER_COLOURS = 0.3
"""Fraction of the parts in colours that no scene has: outlines are to be learned, and not colours."""
_NOT_TOLD = 0.1
"""Fraction of the parts that are redrawn without being told what they show."""
_TOLD = 0.02
"""Weight of the loss of kinds."""
_SHOWN = 4
"""Parts on a sample sheet."""


@dataclass(frozen=True)
class _Part:
    """A part of a frame."""

    decoded: Tensor
    """(3, height, width) in [-1, 1], like `drawn`."""
    drawn: Tensor
    weight: float
    kind: int


DrawPart = Callable[[np.random.Generator], _Part]


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
    for index, file in enumerate(clips.paths):
        latents = video_vae.normalised(vae, clips.read(file)[0].to(device))
        stored[index] = to_bytes(video_vae.decode_whole(vae, latents, refined=False))[numbers[index]]
    part.replace(target)


def _draw_part(
    random: np.random.Generator,
    *,
    frames: np.ndarray,
    numbers: Sequence[np.ndarray],
    scenes: Sequence[Scene],
    granularity: int,
) -> _Part:
    clip = int(random.integers(len(frames)))
    index = 0 if random.random() < _FIRST else int(random.integers(1, _STORED))
    number, scene = int(numbers[clip][index]), scenes[clip]
    decoded = from_bytes(np.array(frames[clip, index : index + 1]))[0, :, 0]
    before, after, kind = _change_outline(decoded, scene, number, random)
    weight = outline_weight(after.unsqueeze(1))
    middle = path(scene)[number] if random.random() >= _ANYWHERE else random.random(2)
    corner = SIDE * middle + random.uniform(-_SHIFT, _SHIFT, 2) - _CROP / 2
    # The refiner halves the same pixels as in whole frames.
    left, top = np.clip(np.rint(corner), 0, SIDE - _CROP).astype(int) // granularity * granularity
    part = (..., slice(top, top + _CROP), slice(left, left + _CROP))
    before, after = before.clamp(-1, 1)[part], after[part]
    if random.random() < 0.5:
        before, after = before.flip(-1), after.flip(-1)
    if random.random() < _OTHER_COLOURS:
        order = torch.from_numpy(random.permutation(3))
        signs = torch.from_numpy(random.choice([-1.0, 1.0], (3, 1, 1)).astype(np.float32))
        before, after = signs * before[order], signs * after[order]
    return _Part(before, after, weight, kind)


def _change_outline(
    decoded: Tensor, scene: Scene, number: int, random: np.random.Generator
) -> tuple[Tensor, Tensor, int]:
    """Return a frame that often has another outline, what is to be drawn of it, and the kind of the object."""
    drawn, chance = _draw(scene, number), random.random()
    kind, after = list(Shape).index(scene.shape), drawn
    if chance < _UNKNOWN:
        seen = after = _to_pixels(draw_outline(scene, unknown(scene, number, random)))
        kind = KINDS - 1
    elif chance < _UNKNOWN + _MELTED:
        other = _to_pixels(draw_outline(scene, melted(scene, number, random)))
        seen = drawn + random.uniform(*_FADED) * (other - drawn)
    else:
        seen = drawn
    before = _soft(seen, random) if random.random() < _AFRESH else decoded + _soft(seen - drawn, random)
    return before, after, kind


def _draw(scene: Scene, number: int) -> Tensor:
    """Return a frame of a scene, (3, height, width) in [-1, 1]."""
    return from_bytes(render(scene, slice(number, number + 1)))[0, :, 0]


def _to_pixels(frame: np.ndarray) -> Tensor:
    """Convert (height, width, 3), 0 to 255, to (3, height, width) in [-1, 1]."""
    return torch.from_numpy(frame).permute(2, 0, 1) / 127.5 - 1


def _soft(picture: Tensor, random: np.random.Generator) -> Tensor:
    """Blur (3, height, width), also a difference of pictures."""
    for _ in range(random.integers(1, _BLURS + 1)):
        picture = functional.avg_pool2d(functional.pad(picture, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return picture


def _losses(refiner: Refiner, step: int, *, draw_part: DrawPart, seed: int) -> NamedLosses:
    random = np.random.default_rng([seed, step])
    device = next(refiner.parameters()).device
    parts = [draw_part(random) for _ in range(_BATCH)]
    decoded, drawn = (torch.stack([getattr(part, name) for part in parts]).to(device) for name in ("decoded", "drawn"))
    weights, kinds = (
        torch.tensor([getattr(part, name) for part in parts], device=device) for name in ("weight", "kind")
    )
    told = torch.from_numpy(random.random((_BATCH, 1)) >= _NOT_TOLD).to(device)
    kind = functional.one_hot(kinds, KINDS) * told.float()
    half = _BATCH // 2
    with autocast(device):
        # Half of the parts are for later passes, which get what the one before has drawn.
        with torch.no_grad():
            once = refiner.redraw(decoded[:half], kind[:half]).float()
        before = torch.cat((once, decoded[half:]))
        seen = refiner.look(before)
        refined = refiner.redraw(before, kind, seen)
        # Kinds are told from frames as they were decoded, and the features are not there for that.
        scores = refiner.score([seen[-1][half:].detach()])
    return {
        **compare(refined, drawn, weights.view(-1, 1, 1, 1)),
        # Melted ones as well, so that a frame that may show several kinds is not sure of one.
        "kinds": _TOLD * functional.cross_entropy(scores.float(), kinds[half:]),
    }


def _rows(refiner: Refiner, *, draw_part: DrawPart, seed: int) -> list[SheetRow]:
    """Show parts as they were decoded, refined and drawn."""
    random = np.random.default_rng(seed)
    device = next(refiner.parameters()).device
    rows = []
    for _ in range(_SHOWN):
        part = draw_part(random)
        refined = refiner(part.decoded.unsqueeze(0).to(device))[0].clamp(-1, 1).cpu()
        shown = torch.stack((part.decoded, refined, part.drawn), dim=1)
        rows.append(SheetRow("decoded, refined, drawn", to_bytes(shown)))
    return rows
