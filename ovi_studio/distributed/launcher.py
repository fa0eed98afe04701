"""`python -m ovi_studio.distributed.launcher`: `accelerate launch`, which says in one sentence that a rank has died.

The launcher of torch would print a page about its own workings instead. With `REPORTS` in the environment, as on the
command line, ranks write the traceback of a defect to a file in that folder (`ending`), and the sentence names it.
Without it, as in the engine, whose output is a log, they print it.
"""

import logging
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from ovi_studio.core.imports import without_collecting
from ovi_studio.core.log_lines import one_line
from ovi_studio.core.terminal import use_forgiving_output
from ovi_studio.distributed.ranks import SCRATCH

REPORTS = "OVI_STUDIO_RANK_REPORTS"
"""Environment variable: a folder for the tracebacks of ranks; empty for one that the launcher creates."""
_INTERRUPTED = 130
_FAILED = 1


def report_path() -> Path | None:
    """The file for the traceback of this rank; None if it is to be printed."""
    folder = os.environ.get(REPORTS)
    return Path(folder) / f"rank-{os.environ.get('RANK', '0')}.txt" if folder else None


def main() -> int:
    """Launch the ranks of the command line, and return the exit status of the first one that failed."""
    with without_collecting():
        from accelerate.commands.launch import main as launch
        from torch.distributed.elastic.multiprocessing.api import SignalException
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    # Whatever is worth telling about the ranks is said below; they log by themselves.
    logging.disable(logging.CRITICAL)
    if REPORTS in os.environ:
        os.environ[REPORTS] = tempfile.mkdtemp(prefix="ovi-studio-")
    with tempfile.TemporaryDirectory(prefix="ovi-ranks-", ignore_cleanup_errors=True) as scratch:
        os.environ[SCRATCH] = scratch
        # Otherwise torch creates a folder for logs that it does not write, and leaves it.
        sys.argv[1:1] = ["--log_dir", scratch]
        try:
            launch()
        except SignalException:
            return _INTERRUPTED
        except ChildFailedError as error:
            return _explain(error)
        finally:
            if not _first_report():
                _remove_reports()
    return 0


def _explain(error: Any) -> int:
    """Say why the ranks have ended, unless the one that failed has said it; returns the exit status."""
    failures = error.failures
    # SIGTERM is how the launcher ends the others.
    for rank, failure in failures.items():
        if failure.exitcode < 0 and failure.exitcode != -signal.SIGTERM:
            _remove_reports()  # of what its end has meant for the others
            name = signal.Signals(-failure.exitcode).name
            memory = "; perhaps memory ran out" if name == "SIGKILL" else ""
            _say(f"rank {rank} of {_ranks()} was ended by {name}{memory}. Clips that were finished are kept.")
            return 128 - failure.exitcode
    if found := _first_report():
        rank, path = found
        summary = path.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
        _say(f"rank {rank} of {_ranks()} failed ({summary}); finished clips are kept. The traceback is in {path}.")
    _, first = error.get_first_failure()
    return first.exitcode if first.exitcode > 0 else _FAILED


def _first_report() -> tuple[str, Path] | None:
    """The rank that failed first, and its traceback; the others may have failed because of it."""
    folder = os.environ.get(REPORTS)
    reports = sorted(Path(folder).glob("rank-*.txt"), key=lambda path: path.stat().st_mtime_ns) if folder else []
    return (reports[0].stem.removeprefix("rank-"), reports[0]) if reports else None


def _ranks() -> str:
    arguments = sys.argv
    return arguments[arguments.index("--num_processes") + 1]


def _say(sentence: str) -> None:
    # The progress bar of a rank may not have ended its line.
    start = "\r\x1b[K" if sys.stderr.isatty() else "\r"
    print(f"{start}error: {one_line(sentence)}", file=sys.stderr, flush=True)


def _remove_reports() -> None:
    if folder := os.environ.get(REPORTS):
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    use_forgiving_output()
    sys.exit(main())
