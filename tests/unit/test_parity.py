"""The numbers of the official implementation, case by case (see `parity.py`)."""

import json
import os
import shutil
from pathlib import Path

import pytest
from parity import evaluate, find_cases
from parity_case import Case
from places import REFERENCE
from warm_start import PIPELINES


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in find_cases(REFERENCE)])
def test_agrees_with_the_official_implementation(case: Case) -> None:
    error, verdict = evaluate(case)
    assert verdict == "ok", f"{case.name}: error {error:.2e}, tolerance {case.tolerance:.0e}"


@pytest.mark.slow
def test_the_script_ends_with_an_error_when_a_case_disagrees(tmp_path: Path) -> None:
    wrong = json.loads((REFERENCE / "host.json").read_text())
    wrong["snap_size"][0]["out"][0] += 32
    (tmp_path / "host.json").write_text(json.dumps(wrong))
    shutil.copy(REFERENCE / "image.case.safetensors", tmp_path)
    done = PIPELINES.run(str(REFERENCE.parent / "parity.py"), str(tmp_path), environment=os.environ)
    assert done.returncode == 1
    assert "host/snap_size" in done.stdout
    assert "FAILED" in done.stdout
    assert "3 of 4 cases agree" in done.stdout


@pytest.fixture
def refused(tmp_path: Path) -> Path:
    """A folder with the reference's model and no refused case yet."""
    for name in ("fusion.config.json", "fusion.weights.safetensors"):
        shutil.copy(REFERENCE / name, tmp_path)
    (tmp_path / "lora" / "rejected").mkdir(parents=True)
    return tmp_path


def verdict_of_the_only_case(directory: Path) -> str:
    (case,) = find_cases(directory)
    return evaluate(case)[1]


@pytest.mark.parametrize(("name", "verdict"), [("lfs_pointer", "ok"), ("truncated", "FAILED"), ("some_other", "ok")])
def test_a_refused_case_passes_only_for_the_reason_that_its_name_says(refused: Path, name: str, verdict: str) -> None:
    rejected = refused / "lora" / "rejected"
    shutil.copy(REFERENCE / "lora" / "rejected" / "lfs_pointer.safetensors", rejected / f"{name}.safetensors")
    assert verdict_of_the_only_case(refused) == verdict


def test_a_refused_case_whose_file_is_not_there_fails(refused: Path) -> None:
    (refused / "lora" / "rejected" / "gone.safetensors").symlink_to(refused / "nowhere.safetensors")
    assert verdict_of_the_only_case(refused) == "FAILED"
