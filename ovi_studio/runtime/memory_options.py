"""The command-line options about how and where models compute, which several commands share. Imports no torch."""

import argparse

from ovi_studio.capacity.tiers import AUTO, CHOICES
from ovi_studio.core.weight_formats import Weights
from ovi_studio.models.attention_kernels import KERNELS, NATIVE


def add_compute_options(parser: argparse.ArgumentParser) -> None:
    """`--attention`, `--compile`, `--tf32`, `--cpu-offload`, `--weights` and `--memory`."""
    parser.add_argument("--attention", default=NATIVE, help=f"{', '.join(KERNELS)} (default: %(default)s)")
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="compile the transformer's blocks: slow start, then faster (default: on a GPU where Triton works)",
    )
    parser.add_argument(
        "--tf32",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="let the audio codec's float32 products be rounded to TF32 on a GPU (default: no)",
    )
    parser.add_argument("--cpu-offload", action="store_true", help="keep models in host memory while they are not used")
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
