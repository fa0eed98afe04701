"""`python -m ovi_studio train`: train all weights of the transformer on a folder of clips."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from ovi_studio.cli.command import Command
from ovi_studio.cli.training import add_training_options, run_training
from ovi_studio.training.settings import TrainSettings

if TYPE_CHECKING:
    from ovi_studio.training.cache import LatentDataset
    from ovi_studio.training.prepare import TrainingContext


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_training_options(parser)
    parser.add_argument(
        "--muon", type=float, metavar="RATE", help="learning rate of Muon for the blocks' weight matrices"
    )


def _run(options: argparse.Namespace) -> int:
    from ovi_studio.training.trainer import save_weights

    def start(context: "TrainingContext", dataset: "LatentDataset", settings: TrainSettings) -> Callable[..., None]:
        context.models.transformer.float().requires_grad_(True)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        return lambda weights, _: save_weights(weights, options.out)

    # Full weights need a smaller learning rate than an adapter, which starts at zero.
    return run_training(options, start, None, rate=0.1)


COMMAND = Command(
    "train",
    "train all weights of a variant on a folder of clips",
    _add_options,
    _run,
    description="Like train-lora, but trains all weights; writes the transformer's weights under their official names.",
)
