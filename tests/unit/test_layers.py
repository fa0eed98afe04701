"""Every folder is a layer: the contracts in `pyproject.toml`, and that they see what they are for."""

import shutil
import subprocess
import sys
from pathlib import Path

from places import ROOT

LINT = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache"]


def lint(folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run(LINT, cwd=folder, capture_output=True, text=True, check=False)


def test_every_folder_imports_what_stands_below_it_and_the_page_starts_without_torch() -> None:
    found = lint(ROOT)
    assert found.returncode == 0, found.stdout


def test_a_waiting_engine_and_a_command_that_says_its_options_import_no_heavy_library() -> None:
    """Not even in functions that they call at their start, which the contracts would allow."""
    heavy = {"torch", "diffusers", "transformers", "huggingface_hub", "gradio", "ray", "scipy"}
    code = "import sys, ovi_studio.engine.loop, ovi_studio.__main__ as program; program.build_parser()"
    code = f"{code}; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_an_import_that_runs_upwards_and_a_torch_in_the_queue_are_found(tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("bundle", "__pycache__")
    shutil.copytree(ROOT / "ovi_studio", tmp_path / "ovi_studio", ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "ovi_studio" / "core" / "upwards.py").write_text("from ovi_studio.media import clip_files\n")
    (tmp_path / "ovi_studio" / "queue" / "heavy.py").write_text("def later():\n    import torch\n")
    found = lint(tmp_path)
    assert found.returncode == 1
    assert "ovi_studio.core.upwards -> ovi_studio.media.clip_files" in found.stdout
    assert "ovi_studio.queue.heavy -> torch" in found.stdout
