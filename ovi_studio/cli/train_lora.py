"""`python -m ovi_studio train-lora`: train an adapter on a folder of clips."""

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ovi_studio.cli.command import Command
from ovi_studio.cli.training import add_training_options, run_training
from ovi_studio.core.towers import TOWERS
from ovi_studio.training.settings import TrainSettings

if TYPE_CHECKING:
    from ovi_studio.training.cache import LatentDataset
    from ovi_studio.training.prepare import TrainingContext

_LAYERS = ("attention", "fusion", "ffn")


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_training_options(parser)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--alpha", type=float, help="scale the adapter by alpha / rank (default: by 1)")
    parser.add_argument("--layers", nargs="+", choices=_LAYERS, default=list(_LAYERS))
    parser.add_argument("--towers", nargs="+", choices=TOWERS, default=list(TOWERS))
    parser.add_argument("--from", dest="start", type=Path, metavar="FILE", help="start from this adapter's weights")
    parser.add_argument("--title", help="display name (default: the file's name)")
    parser.add_argument("--licence", default="", help="licence of the adapter")


def _run(options: argparse.Namespace) -> int:
    from ovi_studio.training.lora import LoraCard, LoraSettings, add_lora, load_lora, save_lora

    lora = LoraSettings(
        rank=options.rank, alpha=options.alpha, layers=tuple(options.layers), towers=tuple(options.towers)
    )

    def start(context: "TrainingContext", dataset: "LatentDataset", settings: TrainSettings) -> Callable[..., None]:
        add_lora(context.models.transformer, lora, settings.seed)
        if options.start is not None:
            load_lora(context.models.transformer, options.start, lora)
        card = LoraCard(
            title=options.title or options.out.stem,
            base_model=context.variant.name,
            trigger_words=(options.trigger,) if options.trigger else (),
            licence=options.licence,
            description=f"Trained on {len(dataset)} clips.",
            clips=len(dataset),
            settings=dataclasses.asdict(settings),
        )
        return lambda weights, _: save_lora(weights, options.out, lora, card)

    return run_training(options, start, lora, rate=1.0)


COMMAND = Command(
    "train-lora",
    "train an adapter on a folder of clips",
    _add_options,
    _run,
    description="Each clip needs a .txt file of the same name with its caption (each line is one caption). Clips "
    "are encoded once, then training runs for the given time. Stop it early with Ctrl+C or SIGTERM.",
)
