"""The command-line options about memory, which several commands share. Imports no torch."""

import argparse

from ovi_studio.memory.formats import Weights
from ovi_studio.memory.tiers import AUTO, CHOICES


def add_memory_options(parser: argparse.ArgumentParser) -> None:
    """`--weights` and `--memory`."""
    parser.add_argument(
        "--weights",
        default=AUTO,
        choices=(AUTO, *(str(weights) for weights in Weights)),
        help="number format of the transformer's weights; fp8 needs a variant whose file has it (default: the tier's)",
    )
    parser.add_argument(
        "--memory",
        default=AUTO,
        choices=CHOICES,
        help="memory tier: GB of the GPU that models may fill, the rest is streamed (default: by free memory)",
    )
