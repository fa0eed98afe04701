"""A training run on several ranks, as a program.

`ANSWER CACHE FOLDER STEPS KIND...`: each KIND (whole, lora, bf16), sharded, into a folder of its name. `ANSWER command
...`: a command of the product. `ANSWER lacking ...`: the same, and one rank lacks memory. Rank 0 writes into ANSWER how
many bytes of the model each rank had in memory before it was sharded, for each run.
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


def as_followers_build_it() -> OviTransformer:
    with torch.device("meta"):
        return build(seed=1)


def lacking_memory(advance: Any) -> Any:
    """Steps, of which rank 1 has no memory for the second one."""

    def lacking(run: Any, loss_of: Any) -> Any:
        if run.step == 1 and os.environ["RANK"] == "1":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return advance(run, loss_of)

    return lacking


def watched(shard: Any, answer: Path) -> Any:
    """`shard`, which first says what there is."""
    of_all_runs: list[list[int]] = []

    def watching(accelerator: Any, model: torch.nn.Module) -> torch.nn.Module:
        held = sum(each.nbytes for each in model.parameters() if not each.is_meta)
        everybody: list[Any] = [None] * accelerator.num_processes
        dist.all_gather_object(everybody, held)
        if accelerator.is_main_process:
            of_all_runs.append(everybody)
            answer.write_text(json.dumps(of_all_runs))
        return shard(accelerator, model)

    return watching


if __name__ == "__main__":
    answer, *arguments = sys.argv[1:]
    trainer.shard = watched(trainer.shard, Path(answer))
    if arguments[0] == "lacking":
        trainer._Run.advance = lacking_memory(trainer._Run.advance)
    if arguments[0] in {"command", "lacking"}:
        end_with(lambda: main(arguments[1:]))
    cache, folder, steps, *kinds = arguments
    for kind in kinds:
        model = None if os.environ["RANK"] == "0" else as_followers_build_it()
        run(Path(cache), Path(folder, kind), kind, replace(SHARDED, steps=int(steps), sharded=True), model)
    dist.destroy_process_group()
