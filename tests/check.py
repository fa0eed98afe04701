"""`./launch.sh check`: what is quick enough to run after every change, on two cores, with the time of each part.

Layout, lint, import contracts, types, and the unit tests that are not marked `slow`. Everything runs to its end, so
that one look shows all that is wrong; the exit status is 1 if anything was.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 60
"""Seconds that all of it may take on two cores that have nothing else to do."""
AT_ONCE = 2
"""Parts that run beside each other; each keeps a core busy."""
MEMORY = Path("/dev/shm")
"""Linux's file system in memory: on a disk, tests of the queue wait a sixth of their time for it."""
MEMORY_NEEDED = 2 * 2**30
"""Free bytes in it; what the tests write is less."""


@dataclass(frozen=True)
class Part:
    """One command and what it checks."""

    title: str
    command: Sequence[str]


def module(title: str, name: str, *arguments: str) -> Part:
    """What `python -m name` does."""
    return Part(title, (sys.executable, "-m", name, *arguments))


LIGHT = (
    ("capacity", "core", "farm", "film", "library", "media", "queue", "takes"),
    ("cli", "engine", "web"),
)
"""Layers in `tests/unit` whose tests import no torch, in two processes of about the same length."""


def unit_tests(title: str, *arguments: str) -> Part:
    """The quick ones that pytest finds with these arguments; in one process, since each would import everything."""
    # Two of these runs at once would overwrite each other's list of failed tests.
    return module(title, "pytest", "-m", "not slow", "-p", "no:cacheprovider", *arguments)


PARTS = (
    module("format", "ruff", "format", "--check", "."),
    module("lint", "ruff", "check", "."),
    Part(
        "import contracts",
        (sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"),
    ),
    unit_tests(
        "unit tests, other layers",
        "tests/unit",
        *(f"--ignore=tests/unit/{ignored}" for ignored in ("test_layers.py", *LIGHT[0], *LIGHT[1])),
    ),
    module("types", "mypy"),
    *(
        unit_tests(f"unit tests, {layers[0]} to {layers[-1]}", *(f"tests/unit/{layer}" for layer in layers))
        for layers in LIGHT
    ),
)
"""After what takes no time, the longest first: a core that is free takes the next one, so that both end together."""


def main() -> int:
    """Run everything; returns the exit status."""
    started = time.monotonic()
    with temporary_files() as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        passed = list(pool.map(lambda part: run(part, folder), PARTS))
    failed = [part.title for part, fine in zip(PARTS, passed, strict=True) if not fine]
    seconds = time.monotonic() - started
    late = f", more than the {LIMIT} s that it should" if seconds > LIMIT else ""
    print(
        f"check: {seconds:.1f} s on {os.cpu_count()} cores{late}; {', '.join(failed) + ' FAILED' if failed else 'ok'}"
    )
    return 1 if failed else 0


def temporary_files() -> "tempfile.TemporaryDirectory[str]":
    """Return a folder for them, in memory if there is room."""
    roomy = os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > MEMORY_NEEDED
    return tempfile.TemporaryDirectory(prefix="ovi-check-", dir=MEMORY if roomy else None, ignore_cleanup_errors=True)


def run(part: Part, temporary: str) -> bool:
    """Run it and print its time, and what it said if it failed; returns whether it did not."""
    started = time.monotonic()
    done = subprocess.run(
        part.command,
        cwd=ROOT,
        env=os.environ | {"TMPDIR": temporary},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    failed = done.returncode != 0
    said = done.stdout.strip() if failed else ""
    # One call, so that two parts do not mix their lines.
    print(
        f"{said}\n" * bool(said)
        + f"{part.title}: {time.monotonic() - started:.1f} s, {'FAILED' if failed else 'ok'}\n",
        end="",
        flush=True,
    )
    return not failed


if __name__ == "__main__":
    sys.exit(main())
