"""The result of `pip install .`: the command with presets, the embedded model and its LoRA file, in any folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

from ovi_studio.media.clip_files import read_record

PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and install it into a folder; its dependencies come from this environment."""
    site = tmp_path_factory.mktemp("installed") / "site"
    # To compile all modules takes longer than to compile those that a command imports, when it does.
    offline = ["--no-deps", "--no-index", "--no-build-isolation", "--no-compile"]
    subprocess.run([*PIP, "install", *offline, "--target", site, ROOT], check=True)
    return site


def run(installed: Path, *arguments: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    # Nor where a test in this process has had code compiled.
    variables = {
        name: value for name, value in os.environ.items() if not name.startswith(("OVI_", "TORCHINDUCTOR_CACHE"))
    }
    command = installed / "bin" / ("ovi-studio.exe" if sys.platform == "win32" else "ovi-studio")
    return subprocess.run(
        [command, *arguments],
        env=variables | {"PYTHONPATH": str(installed)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_embedded_model_makes_a_clip_with_its_lora_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    command = ["generate", "--preset", "demo-lightning", "--prompt", "A red ball bounces"]
    done = run(installed, *command, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    (clip,) = (tmp_path / line for line in done.stdout.splitlines())
    assert sorted((tmp_path / "outputs").iterdir()) == [clip.with_suffix(".jpg"), clip]
    assert [use["name"] for use in read_record(clip)["spec"]["accelerators"]] == ["demo-lightning.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outputs"]


def test_own_loras_are_those_of_the_working_folder_and_shipped_ones_are_listed_too(
    installed: Path, tmp_path: Path
) -> None:
    (tmp_path / "loras").mkdir()
    shipped = ROOT / "loras" / "demo-lightning.safetensors"
    (tmp_path / "loras" / "mine.safetensors").write_bytes(shipped.read_bytes())
    done = run(installed, "loras", "--variant", "demo", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "mine.safetensors" in done.stdout
    assert "demo-lightning.safetensors" in done.stdout


def test_style_scripts_and_settings_of_the_program_are_in_it(installed: Path) -> None:
    suffixes = {".css", ".js", ".json", ".yaml", ".txt", ".safetensors"}
    package = ROOT / "ovi_studio"
    data = {path.relative_to(package) for path in package.rglob("*") if path.suffix in suffixes}
    assert len(data) > 20
    assert [path for path in data if not (installed / "ovi_studio" / path).is_file()] == []
    presets = {path.relative_to(ROOT) for path in (ROOT / "presets").rglob("*") if path.suffix in suffixes}
    assert [path for path in presets if not (installed / "ovi_studio" / "_shipped" / path).is_file()] == []
