"""Reports of a run: a table, a JSON file, and a comparison of two runs."""

import importlib.metadata
import json
import platform
import subprocess
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from gpu.check import Figure, Rig
from gpu.device import GIB
from gpu.runner import Result

ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("diffusers", "transformers", "accelerate", "peft", "triton", "flash-attn", "sageattention")
_TEXT_WIDTH = 72


def machine(rig: Rig) -> dict[str, Any]:
    """Describe the machine that ran the checks, as plain JSON values."""
    found: dict[str, Any] = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        "commit": _commit(),
        "small": rig.small,
        "device": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "torch": torch.__version__,
        "packages": _versions(),
    }
    if rig.on_gpu:
        properties = torch.cuda.get_device_properties(rig.device)
        found |= {
            "device": properties.name,
            "memory_gib": round(properties.total_memory / GIB, 2),
            "capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda,
            "driver": _driver(),
        }
    return found


def as_json(found: Mapping[str, Any], results: Sequence[Result]) -> dict[str, Any]:
    """Return the machine, and for each check its verdict, reason, seconds, figures with units, and skipped parts."""
    checks = []
    for result in results:
        figures = {name: figure._asdict() for name, figure in result.figures.items()}
        checks.append(asdict(result) | {"verdict": str(result.verdict), "figures": figures})
    return {"machine": dict(found), "checks": checks}


def write_json(path: Path, found: Mapping[str, Any], results: Sequence[Result]) -> None:
    """Write the results atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(as_json(found, results), indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def table(results: Sequence[Result]) -> str:
    """Return a table of the checks: verdict, seconds, and one below the other reason, figures and skipped parts."""
    rows = [("check", "verdict", "seconds", ["reason, figures"])]
    for result in results:
        rows.append((result.name, str(result.verdict), f"{result.seconds:.1f}", list(_lines(result))))
    return "\n".join(_aligned(rows))


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Compare two files of `write_json`: differences of the machines, verdicts, and every figure."""
    rows = [("", "old", "new", "new / old")]
    machines = old["machine"], new["machine"]
    for name in dict.fromkeys(key for each in machines for key in each):
        values = [str(each.get(name, "")) for each in machines]
        if values[0] != values[1] or name == "device":
            rows.append((name, *values, ""))
    before, after = ({check["name"]: check for check in run["checks"]} for run in (old, new))
    for name in dict.fromkeys([*before, *after]):
        checks = before.get(name, {}), after.get(name, {})
        rows.append((name, *(check.get("verdict", "-") for check in checks), ""))
        figures = [check.get("figures", {}) for check in checks]
        for figure in dict.fromkeys(key for each in figures for key in each):
            rows.append((f"  {figure}", *_compared(*(each.get(figure) for each in figures))))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]:>{widths[3]}}".rstrip()
        for row in rows
    )


def _lines(result: Result) -> Iterator[str]:
    if result.reason:
        yield from textwrap.wrap(result.reason, _TEXT_WIDTH)
    for name, figure in result.figures.items():
        yield f"{name}: {_shown(figure)}"
    for name, reason in result.left_out.items():
        yield from textwrap.wrap(f"skipped {name}: {reason}", _TEXT_WIDTH)


def _aligned(rows: Sequence[tuple[str, str, str, list[str]]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for name, verdict, seconds, lines in rows:
        first, *others = lines or [""]
        start = f"{name:<{widths[0]}}  {verdict:<{widths[1]}}  {seconds:>{widths[2]}}  "
        yield f"{start}{first}".rstrip()
        yield from (f"{'':<{len(start)}}{line}" for line in others)


def _shown(figure: Figure) -> str:
    return f"{figure.value:.4g} {figure.unit}".rstrip()


def _compared(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> tuple[str, str, str]:
    shown = ["-" if each is None else _shown(Figure(**each)) for each in (old, new)]
    ratio = f"{new['value'] / old['value']:.3f}" if old and new and old["value"] else ""
    return shown[0], shown[1], ratio


def _commit() -> str | None:
    """Return the commit of the working tree, marked if it has changes; None outside a checkout."""
    with suppress(OSError, subprocess.SubprocessError):
        command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    return None


def _driver() -> str | None:
    with suppress(OSError, subprocess.SubprocessError):
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        return done.stdout.splitlines()[0].strip()
    return None


def _versions() -> dict[str, str]:
    versions = {}
    for name in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions
