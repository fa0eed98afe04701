"""`python -m ovi_studio engine`: the engine alone, without a page."""

import argparse
import faulthandler
import sys
from collections.abc import Sequence
from pathlib import Path

from ovi_studio.checkpoints.layout import default_checkpoint_directory
from ovi_studio.engine.loop import run
from ovi_studio.engine.maker import DEFAULT_MAKER, MakerOptions
from ovi_studio.errors import JobError
from ovi_studio.jobs.paths import StudioPaths
from ovi_studio.memory.options import add_memory_options
from ovi_studio.parallel.launch import add_options, launch_if_several, sharding_wish


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve a queue; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m ovi_studio engine", description="Make the clips of a queue.")
    parser.add_argument("--out", type=Path, default=Path("outputs"), help="folder for the clips (default: outputs)")
    parser.add_argument("--state", type=Path, help="folder of the queue (default: .studio/ beside the clips)")
    parser.add_argument("--ckpt-dir", type=Path, default=default_checkpoint_directory(), help="checkpoints")
    parser.add_argument("--lora-dir", type=Path, help="LoRA files (default: $OVI_LORA_DIR or loras)")
    parser.add_argument("--attention", default="native", help="native, flash2, flash3 or sage")
    parser.add_argument("--compile", action="store_true", help="compile the transformer's blocks")
    parser.add_argument("--cpu-offload", action="store_true", help="keep models in host memory while not used")
    add_options(parser)
    add_memory_options(parser)
    # For the supervisor and for tests.
    parser.add_argument("--owner", help=argparse.SUPPRESS)
    parser.add_argument("--supervised", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--maker", default=DEFAULT_MAKER, help=argparse.SUPPRESS)
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parser.parse_args(arguments)
    faulthandler.enable()
    try:
        launch_if_several(options.gpus, "ovi_studio.engine", arguments)
        run(
            StudioPaths.of(options.out, options.state),
            MakerOptions(
                options.ckpt_dir,
                options.attention,
                options.compile,
                options.cpu_offload,
                options.lora_dir,
                options.gpus,
                sharding_wish(options),
                weights=options.weights,
                memory=options.memory,
            ),
            maker=options.maker,
            owner=options.owner,
            supervised=options.supervised,
        )
    except JobError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
