"""Training of the embedded model's transformer on encoded scenes, with a new prompt for each scene in every batch."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from ovi_studio.demo.embedder import Embedder
from ovi_studio.demo.encoded import EncodedScenes
from ovi_studio.demo.phrasing import exact_prompt
from ovi_studio.models.transformer import OviTransformer
from ovi_studio.training.cache import LatentDataset, SampleOrder, generator_for
from ovi_studio.training.flow import Losses, flow_loss
from ovi_studio.training.settings import TrainSettings
from ovi_studio.training.trainer import OnCheckpoint, run_training


def train_on_prompts(
    transformer: OviTransformer,
    scenes: EncodedScenes,
    text: Embedder,
    settings: TrainSettings,
    folder: Path,
    on_checkpoint: OnCheckpoint | None = None,
) -> None:
    """Train in place, resuming a run found in `folder`, as `training.trainer.train` does."""
    dataset = LatentDataset(scenes.folder)
    order, unconditional = SampleOrder(len(dataset), settings.seed), text.unconditional()

    def compute_losses(accelerator: Accelerator, predict: nn.Module, index: int) -> Losses:
        number = index * accelerator.num_processes + accelerator.process_index
        generator, random = generator_for(settings.seed, number), np.random.default_rng([settings.seed, number])
        chosen = order[number * settings.batch_size : (number + 1) * settings.batch_size]
        batch = dataset.batch(chosen, generator)
        prompts = [exact_prompt(scenes.scene(dataset.paths[each]), random).text for each in chosen]
        batch = replace(batch, text=pad_sequence(text(prompts), batch_first=True))
        return flow_loss(predict, batch, unconditional, settings.flow, generator, accelerator.device)

    run_training(transformer, compute_losses, settings, folder, on_checkpoint=on_checkpoint)
