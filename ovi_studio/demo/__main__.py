"""`python -m ovi_studio.demo`: make the embedded model."""

import argparse
from pathlib import Path

from ovi_studio.variants import EMBEDDED_BUNDLE


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ovi_studio.demo", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make", help="write the bundle with untrained weights")
    make.add_argument("directory", type=Path, nargs="?", default=EMBEDDED_BUNDLE)
    make.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    import torch

    from ovi_studio.demo.bundle_writer import build_models, write_bundle
    from ovi_studio.demo.dimensions import BUNDLE, DIMENSIONS

    write_bundle(BUNDLE, build_models(DIMENSIONS, arguments.seed), arguments.directory, torch.bfloat16)
    print(f"Wrote the bundle {arguments.directory}.")


if __name__ == "__main__":
    main()
