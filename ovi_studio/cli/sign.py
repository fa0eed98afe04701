"""`python -m ovi_studio sign`: add Content Credentials (C2PA) to clips, posters and films."""

import argparse
from pathlib import Path

from ovi_studio.cli.command import Command
from ovi_studio.core.errors import JobError


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="clips, posters or films")
    parser.add_argument("--certificate", type=Path, metavar="PEM", help="your certificate and those that vouch for it")
    parser.add_argument("--key", type=Path, metavar="PEM", help="its private key, without a password")
    parser.add_argument(
        "--local", action="store_true", help="sign with a certificate of this machine, which nobody else vouches for"
    )


def _run(options: argparse.Namespace) -> int:
    from ovi_studio.engine.command import DEFAULT_OUTPUT_DIRECTORY
    from ovi_studio.media.content_credentials import Identity, local_identity, sign
    from ovi_studio.queue.paths import StudioPaths

    if options.local == bool(options.certificate or options.key) or bool(options.certificate) != bool(options.key):
        raise JobError("Give --certificate and --key, or --local alone.")
    if options.local:
        identity = local_identity(StudioPaths.of(DEFAULT_OUTPUT_DIRECTORY).state / "signing")
    else:
        identity = Identity(options.certificate, options.key)
    for path in options.files:
        sign(path, identity)
        print(f"signed: {path}", flush=True)
    return 0


COMMAND = Command("sign", "add Content Credentials (C2PA) to clips, posters and films", _add_options, _run)
