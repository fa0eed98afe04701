"""A training run on several ranks, as a program: `CACHE FOLDER STEPS KIND`, where KIND is whole or lora; sharded."""

import sys
from dataclasses import replace
from pathlib import Path

import torch.distributed as dist
from test_training import SETTINGS, build, unconditional

from ovi_studio.training.cache import LatentDataset
from ovi_studio.training.lora import LoraSettings, add_lora
from ovi_studio.training.settings import TrainSettings
from ovi_studio.training.trainer import train

SHARDED = replace(
    SETTINGS, steps=4, batch_size=2, muon_learning_rate=None, schedule="constant", decay=0, checkpoint_minutes=0
)


def run(cache: Path, folder: Path, kind: str, settings: TrainSettings) -> None:
    model = build()
    if kind == "lora":
        add_lora(model, LoraSettings(rank=4))
    train(model, LatentDataset(cache), unconditional(), settings, folder, on_progress=lambda _: None)


if __name__ == "__main__":
    cache, folder, steps, kind = sys.argv[1:]
    run(Path(cache), Path(folder), kind, replace(SHARDED, steps=int(steps), sharded=True))
    dist.destroy_process_group()
