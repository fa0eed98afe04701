"""The stage that distils `demo-lightning`: an adapter with which the embedded model needs four passes."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from ovi_studio.core.spec import format_timesteps
from ovi_studio.demo.dimensions import BUNDLE
from ovi_studio.demo.embedder import Embedder
from ovi_studio.demo.phrasing import training_prompt
from ovi_studio.demo.scenes import draw_training_scene
from ovi_studio.models.transformer import OviTransformer
from ovi_studio.training.distil import distil
from ovi_studio.training.lora import LoraCard, LoraSettings, add_lora, load_lora, save_lora
from ovi_studio.training.settings import TrainSettings
from ovi_studio.training.trajectories import Teacher, TrajectoryDataset, write_trajectories

ADAPTER = "demo-lightning.safetensors"
TRAJECTORIES = "trajectories"
_LORA = LoraSettings(rank=32)
_TEACHER = Teacher(steps=24, video_guidance=3.0, audio_guidance=3.0)


@dataclass(frozen=True)
class LightningBudget:
    """Size of the distillation."""

    trajectories: int
    train: TrainSettings


def teach_trajectories(
    transformer: OviTransformer,
    text: Embedder,
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    count: int,
    folder: Path,
    seed: int,
    part: tuple[int, int] = (1, 1),
) -> None:
    """Compute the trajectories of random prompts that have no file yet; several processes can each take a part.

    Args:
        shapes: shapes of the video and audio latents.
    """
    random = np.random.default_rng([seed, 3])
    prompts = [training_prompt(draw_training_scene(random), random).text for _ in range(count)]

    def report(done: int, of: int) -> None:
        if done % 20 == 0:
            print(f"{done} of {of} trajectories.", flush=True)

    write_trajectories(
        transformer,
        _TEACHER,
        text(prompts),
        text.unconditional(),
        shapes,
        folder / TRAJECTORIES,
        seed=seed,
        part=part,
        on_done=report,
    )


def distil_adapter(
    transformer: OviTransformer, settings: TrainSettings, folder: Path, target: Path, start: Path | None = None
) -> None:
    """Train the adapter on the trajectories in `folder` and write it to `target`, resuming an interrupted run.

    Args:
        start: an adapter to start from.
    """
    dataset = TrajectoryDataset(folder / TRAJECTORIES, len(_TEACHER.sigmas))
    add_lora(transformer, _LORA, settings.seed)
    if start is not None:
        load_lora(transformer, start, _LORA)
    timesteps = format_timesteps(_TEACHER.timesteps)
    card = LoraCard(
        title=target.stem,
        base_model=BUNDLE["name"],
        licence=BUNDLE["licence"],
        description=f"{len(_TEACHER.timesteps)} steps of one pass: solver euler, timesteps {timesteps}, "
        "both guidance scales 1.",
        settings=asdict(_TEACHER) | {"trajectories": len(dataset), **asdict(settings)},
    )

    def export(weights: Mapping[str, Tensor], _: Path) -> None:
        save_lora(weights, target, _LORA, card)

    distil(transformer, dataset, _TEACHER.sigmas, settings, folder / "run", export=export)
