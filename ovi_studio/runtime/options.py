"""The command-line options of everything that serves a queue: `app.py` and `python -m ovi_studio engine`."""

import argparse
from pathlib import Path

from ovi_studio.checkpoints.layout import default_checkpoint_directory
from ovi_studio.distributed.launch import add_options, sharding_wish
from ovi_studio.runtime.memory_options import add_compute_options
from ovi_studio.runtime.runner import MakerOptions

DEFAULT_OUTPUT_DIRECTORY = Path("outputs")


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Where clips, queue and models are, and how clips are made."""
    parser.add_argument(
        "--out", type=Path, default=DEFAULT_OUTPUT_DIRECTORY, help="folder for the clips (default: %(default)s)"
    )
    parser.add_argument("--state", type=Path, help="folder of the queue (default: .studio/ beside the clips)")
    parser.add_argument(
        "--ckpt-dir",
        type=Path,
        default=default_checkpoint_directory(),
        help="folder with the checkpoints (default: %(default)s)",
    )
    parser.add_argument("--lora-dir", type=Path, help="folder with LoRA files (default: $OVI_LORA_DIR or loras)")
    add_options(parser)
    add_compute_options(parser)


def maker_options(options: argparse.Namespace) -> MakerOptions:
    """What the options say about making clips; raises `JobError` for what cannot be."""
    return MakerOptions(
        options.ckpt_dir,
        options.attention,
        options.compile,
        options.cpu_offload,
        options.lora_dir,
        options.gpus,
        sharding_wish(options),
        weights=options.weights,
        memory=options.memory,
        tf32=bool(options.tf32),
    )
