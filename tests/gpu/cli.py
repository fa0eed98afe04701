"""The command `python tests/gpu`.

Exit status: 0, no check failed, or there is no GPU (a message says so); 1, a check failed; 2, invalid options; 130,
Ctrl+C.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[2]
MINUTES = 8.0

NO_GPU = (
    "These checks need a GPU that PyTorch can use, and this machine has none, so nothing was checked. "
    "`--small --device cpu` runs small versions of them on the CPU."
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.compare:
        return _compare(parser, *options.compare)
    if options.device == "cpu" and not options.small:
        parser.error("--device cpu needs --small: full-size models would take hours on a CPU")
    with tempfile.TemporaryDirectory(prefix="ovi-test-gpu-", ignore_cleanup_errors=True) as folder:
        # No downloads, and no use of existing caches.
        environment = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "OVI_CACHE_DIR": folder}
        if options.device == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = ""  # before torch is imported
        with patch.dict(os.environ, environment):
            return _run(parser, options, Path(folder))


def _parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="python tests/gpu",
        description="Checks of Ovi Studio on one GPU of 24 GB or more, with random full-size weights; they need no "
        "checkpoints and no network. The exit status is 1 if a check failed.",
    )
    options.add_argument("--only", nargs="+", metavar="NAME", help="run only these checks")
    options.add_argument("--list", action="store_true", help="list the checks and what they show")
    options.add_argument("--small", action="store_true", help="use tiny models, on a GPU or the CPU")
    options.add_argument("--device", choices=("cuda", "cpu"), help="cpu only together with --small")
    options.add_argument("--minutes", type=float, default=MINUTES, help="start no check later (default: %(default)g)")
    options.add_argument(
        "--json", type=Path, default=ROOT / "outputs" / "test-gpu.json", metavar="FILE", help="write the result here"
    )
    options.add_argument(
        "--compare", nargs=2, type=Path, metavar=("OLD.json", "NEW.json"), help="print two results side by side"
    )
    return options


def _run(parser: argparse.ArgumentParser, options: argparse.Namespace, folder: Path) -> int:
    from ovi_studio.core.imports import without_collecting

    with without_collecting():
        import torch

    has_gpu = torch.cuda.is_available()
    if not has_gpu and not options.list and (options.device == "cuda" or not options.small):
        print(NO_GPU)
        return 0

    with without_collecting():
        from gpu.check import Rig
        from gpu.checks import CHECKS
        from gpu.session import Session
        from ovi_studio.models.device import compute_device

    if options.list:
        width = max(len(check.name) for check in CHECKS)
        print("\n".join(f"{check.name:<{width}}  {check.shows}" for check in CHECKS))
        return 0
    names = [check.name for check in CHECKS]
    for name in options.only or ():
        if name not in names:
            parser.error(f"there is no check {name!r}; choose from {', '.join(names)}")
    chosen = [check for check in CHECKS if options.only is None or check.name in options.only]
    session = Session(Rig(compute_device(), options.small, folder), chosen, options.json)
    try:
        return session.run(60 * options.minutes)
    except KeyboardInterrupt:
        session.report()
        return 130


def _compare(parser: argparse.ArgumentParser, *paths: Path) -> int:
    from gpu.report import compare

    runs = []
    for path in paths:
        try:
            run = json.loads(path.read_text(encoding="utf-8"))
            runs.append({"machine": dict(run["machine"]), "checks": list(run["checks"])})
        except (OSError, ValueError, KeyError, TypeError) as error:
            parser.error(f"{path} is not a result of these checks ({error})")
    print(compare(*runs))
    return 0
