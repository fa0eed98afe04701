"""A training run on several ranks, as a program.

`ANSWER CACHE FOLDER STEPS KIND...` trains each KIND (whole, lora or bf16) with sharding, into a folder of its name.
`ANSWER command ...` runs a command of the app; `ANSWER out-of-memory ...` does so and lets one rank run out of memory.
Rank 0 writes to ANSWER how many bytes of the model each rank held before sharding, for each run.
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from training_helpers import SETTINGS, build, unconditional

from ovi_studio.__main__ import main
from ovi_studio.distributed.ending import end_with
from ovi_studio.models.transformer import OviTransformer
from ovi_studio.training import trainer
from ovi_studio.training.cache import LatentDataset
from ovi_studio.training.lora import LoraSettings, add_lora
from ovi_studio.training.settings import TrainSettings
from ovi_studio.training.trainer import train

SHARDED = replace(
    SETTINGS, steps=4, batch_size=2, muon_learning_rate=None, schedule="constant", decay=0, checkpoint_minutes=0
)


def run(cache: Path, folder: Path, kind: str, settings: TrainSettings, model: OviTransformer | None = None) -> None:
    model = model or build()
    if kind == "bf16":
        model.to(torch.bfloat16)
        settings = replace(settings, precision="bf16", gradient_checkpointing=True)
    if kind != "whole":
        add_lora(model, LoraSettings(rank=4))
    train(model, LatentDataset(cache), unconditional(), settings, folder, on_progress=lambda _: None)


def build_as_follower() -> OviTransformer:
    with torch.device("meta"):
        return build(seed=1)


def out_of_memory_in_second_step(take_step: Any) -> Any:
    """Let rank 1 run out of memory in the second step."""

    def failing(run: Any, compute_losses: Any) -> Any:
        if run.step == 1 and os.environ["RANK"] == "1":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return take_step(run, compute_losses)

    return failing


def recording(shard: Any, answer: Path) -> Any:
    """Let `shard` first write how many bytes each rank holds, for each run so far."""
    of_all_runs: list[list[int]] = []

    def record(accelerator: Any, model: torch.nn.Module) -> torch.nn.Module:
        held = sum(each.nbytes for each in model.parameters() if not each.is_meta)
        of_all_ranks: list[Any] = [None] * accelerator.num_processes
        dist.all_gather_object(of_all_ranks, held)
        if accelerator.is_main_process:
            of_all_runs.append(of_all_ranks)
            answer.write_text(json.dumps(of_all_runs))
        return shard(accelerator, model)

    return record


if __name__ == "__main__":
    answer, *arguments = sys.argv[1:]
    trainer.shard = recording(trainer.shard, Path(answer))
    if arguments[0] == "out-of-memory":
        trainer._Run.take_step = out_of_memory_in_second_step(trainer._Run.take_step)
    if arguments[0] in {"command", "out-of-memory"}:
        end_with(lambda: main(arguments[1:]))
    cache, folder, steps, *kinds = arguments
    for kind in kinds:
        model = None if os.environ["RANK"] == "0" else build_as_follower()
        # Of the whole model, checkpoints are also saved between steps; of the others only at the end of the run.
        minutes = SHARDED.checkpoint_minutes if kind == "whole" else SETTINGS.checkpoint_minutes
        settings = replace(SHARDED, steps=int(steps), checkpoint_minutes=minutes, sharded=True)
        run(Path(cache), Path(folder, kind), kind, settings, model)
    dist.destroy_process_group()
