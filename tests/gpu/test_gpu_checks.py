"""The GPU checks (`tests/gpu`): their small versions on the CPU, and their runner."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_cuda import computing_on_the_host
from places import ROOT, TESTS

from gpu import cli, report, session
from gpu.check import Check, CheckFailure, Figure, Findings, Rig, Skipped
from gpu.checks import CHECKS
from gpu.runner import KEPT, Result, Verdict, run_check, run_checks
from ovi_studio.distributed.decode import Piece, decode_pieces
from ovi_studio.models.device import compute_device
from ovi_studio.models.quantized_linear import Int8Linear
from ovi_studio.runtime.transfers import DirectTransfers

NOT_ON_FAKE_CARDS = ("reference", "clips", "shortage", "train-lora", "sharded")
"""Checks that take long with simulated cards, or need the real allocator, autocast or process group."""

every_check = pytest.mark.parametrize(
    "check",
    [pytest.param(check, id=check.name) for check in CHECKS],
)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(torch.device("cpu"), small=True, folder=tmp_path)


def run(*arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run the command as a user does."""
    command = [sys.executable, str(TESTS / "gpu"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)


def checks(**functions: Callable[[Rig, Findings], None]) -> list[Check]:
    return [Check(name, function) for name, function in functions.items()]


# The checks


@every_check
def test_the_small_version_passes_on_a_cpu(check: Check, rig: Rig) -> None:
    result = run_check(check, rig)
    assert result.verdict is Verdict.PASSED, result.reason
    assert result.figures


@pytest.mark.parametrize(
    "check", [check for check in CHECKS if check.name not in NOT_ON_FAKE_CARDS], ids=lambda c: c.name
)
def test_the_small_version_runs_the_gpu_branches(check: Check, rig: Rig, cuda: Callable[..., Any]) -> None:
    cuda(24)
    with computing_on_the_host():
        result = run_check(check, Rig(compute_device(), small=True, folder=rig.folder))
    assert result.verdict is Verdict.PASSED, result.reason


def test_every_check_says_in_one_line_what_it_shows() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS) == 15
    for check in CHECKS:
        assert re.fullmatch(r"[A-Z].{20,}[.]", check.shows), check.name


# Faults that the checks must find


def scaled(self: Int8Linear, input: torch.Tensor) -> torch.Tensor:
    return 1.01 * torch.nn.functional.linear(input, self.dequantised(input.dtype), self.bias)


def short_by_a_value(self: DirectTransfers, slot: int, target: torch.Tensor, source: torch.Tensor) -> None:
    target[:-4].copy_(source[:-4])


def without_numbers(self: DirectTransfers, slot: int, target: torch.Tensor, source: torch.Tensor) -> None:
    target.fill_(255)


def brighter_in_tiles(vae: Any, latents: torch.Tensor, tile: int | None, *others: Any) -> Iterator[list[Piece]]:
    for pieces in decode_pieces(vae, latents, tile, *others):
        yield [replace(piece, pixels=piece.pixels | 64) for piece in pieces] if tile else pieces


@pytest.mark.parametrize(
    ("name", "place", "fault", "reason"),
    [
        (
            "reference",
            "ovi_studio.models.transformer._sinusoid",
            lambda timestep, dim: torch.zeros(*timestep.shape, dim),
            "disagree with the official implementation: fusion",
        ),
        ("int8-products", "ovi_studio.models.quantized_linear.Int8Linear.forward", scaled, "rows through"),
        ("attention", "gpu.checks.attentions.choose_attention", lambda *_: "sage", "which is not exact"),
        (
            "tf32",
            "ovi_studio.models.audio_vae.AudioVAE.decode",
            lambda *_: torch.full((1, 80, 44), torch.nan),
            "not finite",
        ),
        ("streaming", "ovi_studio.runtime.transfers.DirectTransfers.fetch", short_by_a_value, "other velocities"),
        ("staying", "gpu.checks.staying.guided_step", lambda *_, **__: (torch.rand(3),), "other velocities"),
        ("fusing", "ovi_studio.adapters.fuse.WeightFuser.restore", lambda *_: None, "did not restore"),
        (
            "clips",
            "ovi_studio.models.quantized_linear.Int8Linear.multiply",
            lambda self, rows, out: out.zero_(),
            "With int8 weights a clip differs",
        ),
        ("shortage", "gpu.checks.shortage.is_out_of_memory", lambda _: False, "is not recognised"),
        ("train-lora", "gpu.checks.lora_training.train", lambda *_, **__: None, "0 steps were reported"),
        ("decoding", "gpu.checks.decoding.decode_pieces", brighter_in_tiles, "With tiles of 2 the clip differs"),
        (
            "step",
            "gpu.checks.step.guided_step",
            lambda *_, **__: (torch.tensor([torch.nan]), torch.ones(1)),
            "not finite",
        ),
        (
            "whole-clip",
            "ovi_studio.models.vocoder.Vocoder.forward",
            lambda self, mel: mel.new_zeros(1, 1, mel.shape[-1] * 256),
            "silent",
        ),
        ("tiers", "ovi_studio.runtime.transfers.DirectTransfers.fetch", without_numbers, "not finite"),
    ],
)
def test_a_check_fails_on_the_fault_that_it_must_find(
    name: str, place: str, fault: Callable[..., Any], reason: str, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, fault)
    (check,) = (check for check in CHECKS if check.name == name)
    result = run_check(check, rig)
    assert result.verdict is Verdict.FAILED
    assert reason in result.reason


# The runner


def good(rig: Rig, found: Findings) -> None:
    """It is good."""
    found.note("speed", 2.5, "s")


def bad(rig: Rig, found: Findings) -> None:
    """It is bad."""
    found.note("speed", 3, "s")
    raise CheckFailure("The result is wrong.")


def broken(rig: Rig, found: Findings) -> None:
    """It is broken."""
    raise KeyError("x")


def skipping(rig: Rig, found: Findings) -> None:
    """It cannot run here."""
    raise Skipped("it needs a second GPU.")


def partial(rig: Rig, found: Findings) -> None:
    """It leaves a part out."""
    found.leave_out("sage", "it is not installed")


def not_finite(rig: Rig, found: Findings) -> None:
    """It notes NaN."""
    found.note("speed", float("nan"), "s")


def test_a_failing_check_does_not_stop_the_others(rig: Rig) -> None:
    results = list(run_checks(checks(bad=bad, broken=broken, skipping=skipping, nan=not_finite, good=good), rig, 60))
    assert [(result.verdict, result.reason) for result in results] == [
        (Verdict.FAILED, "The result is wrong."),
        (Verdict.FAILED, "KeyError: 'x'"),
        (Verdict.SKIPPED, "it needs a second GPU."),
        (Verdict.FAILED, "The figures for speed are not finite."),
        (Verdict.PASSED, ""),
    ]
    assert results[0].figures == {"speed": Figure(3, "s")}


def test_checks_that_would_start_after_the_time_limit_are_not_run(rig: Rig) -> None:
    def slow(rig: Rig, found: Findings) -> None:
        """It is slow."""
        time.sleep(1.1)

    results = list(run_checks(checks(slow=slow, late=good, later=good), rig, 1))
    assert [result.verdict for result in results] == [Verdict.PASSED, Verdict.NOT_RUN, Verdict.NOT_RUN]
    assert (results[-1].reason, results[-1].figures) == ("out of time", {})


def test_a_check_that_keeps_gpu_memory_fails(tmp_path: Path, cuda: Callable[..., Any]) -> None:
    card = cuda(24).cards[0]

    def keeping(rig: Rig, found: Findings) -> None:
        """It keeps memory."""
        card.allocated += 2 * KEPT
        torch.cuda.set_per_process_memory_fraction(0.5, rig.device)

    result, after = run_checks(checks(keeping=keeping, good=good), Rig(compute_device(), True, tmp_path), 60)
    assert (result.verdict, result.reason) == (Verdict.FAILED, "It keeps 0.50 GiB of GPU memory.")
    assert after.verdict is Verdict.PASSED
    assert card.fraction == 1.0


def test_running_out_of_memory_is_named_as_such(rig: Rig) -> None:
    def greedy(rig: Rig, found: Findings) -> None:
        """It wants too much."""
        torch.empty(2**60, dtype=torch.uint8)

    assert run_check(*checks(greedy=greedy), rig).reason.startswith("Memory ran out: ")


def test_a_check_that_hangs_ends_the_run_with_a_report(tmp_path: Path, python_environment: dict[str, str]) -> None:
    script = """
import sys, time, torch
from pathlib import Path
from gpu import session
from gpu.check import Check, Rig
session.PATIENCE = 0.5
def good(rig, found):
    "It is good."
def stuck(rig, found):
    "It hangs."
    time.sleep(600)
folder = Path(sys.argv[1])
checks = [Check("good", good), Check("stuck", stuck), Check("rest", good)]
session.Session(Rig(torch.device("cpu"), True, folder), checks, folder / "result.json").run(0.5)
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, env=python_environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    verdicts = {each["name"]: each["verdict"] for each in json.loads((tmp_path / "result.json").read_text())["checks"]}
    assert verdicts == {"good": "passed", "stuck": "failed", "rest": "not run"}
    assert "1 passed, 1 failed, 1 not run" in done.stdout


# The report


def test_table_and_file_say_the_same(rig: Rig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "result.json"
    every = checks(good=good, bad=bad, skipping=skipping, partial=partial)
    assert session.Session(rig, every, path).run(60) == 1
    table = capsys.readouterr().out
    assert re.search(r"^good +passed +\d+\.\d  speed: 2.5 s$", table, re.MULTILINE)
    assert re.search(r"^bad +failed +\d+\.\d  The result is wrong\.\n +speed: 3 s$", table, re.MULTILINE)
    assert re.search(r"^skipping +skipped +\d+\.\d  it needs a second GPU\.$", table, re.MULTILINE)
    assert "skipped sage: it is not installed" in table
    assert "2 passed, 1 failed, 1 skipped" in table
    written = json.loads(path.read_text())
    assert [(check["name"], check["verdict"]) for check in written["checks"]] == [
        ("good", "passed"),
        ("bad", "failed"),
        ("skipping", "skipped"),
        ("partial", "passed"),
    ]
    assert written["checks"][0]["figures"] == {"speed": {"value": 2.5, "unit": "s"}}
    assert written["checks"][3]["left_out"] == {"sage": "it is not installed"}
    assert written["machine"]["torch"] == torch.__version__
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", written["machine"]["date"])
    assert list(path.parent.iterdir()) == [path]


def test_the_card_and_its_memory_are_in_the_file(tmp_path: Path, cuda: Callable[..., Any]) -> None:
    cuda(24)
    found = report.machine(Rig(compute_device(), True, tmp_path))
    assert (found["device"], found["memory_gib"], found["cuda"]) == ("NVIDIA GeForce RTX 3090", 23.69, "13.0")


def test_two_runs_are_compared_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def write(name: str, device: str, verdict: Verdict, **figures: float) -> Path:
        found = {key: Figure(value, "s") for key, value in figures.items()}
        path = tmp_path / name
        report.write_json(path, {"device": device, "torch": "2.13"}, [Result("step", "", verdict, "", 1.0, found)])
        return path

    old = write("old.json", "card A", Verdict.PASSED, eager=2.0, compiled=1.0)
    new = write("new.json", "card B", Verdict.FAILED, eager=1.5, tiles=4.0)
    assert cli.main(["--compare", str(old), str(new)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["device", "card", "A", "card", "B"] in lines
    assert ["step", "passed", "failed"] in lines
    assert ["eager", "2", "s", "1.5", "s", "0.750"] in lines
    assert ["compiled", "1", "s", "-"] in lines
    assert ["tiles", "-", "4", "s"] in lines
    assert not any(line[:1] == ["torch"] for line in lines)


def test_a_file_that_is_not_a_result_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "other.json"
    path.write_text("[]")
    with pytest.raises(SystemExit) as end:
        cli.main(["--compare", str(path), str(path)])
    assert end.value.code == 2
    assert "other.json is not a result of these checks" in capsys.readouterr().err


# The command


@pytest.mark.parametrize("arguments", [[], ["--device", "cuda"], ["--small", "--device", "cuda"], ["--only", "step"]])
def test_without_a_gpu_it_says_so_and_reports_no_pass(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "result.json"
    assert cli.main([*arguments, "--json", str(path)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("These checks need a GPU that PyTorch can use, and this machine has none")
    assert "passed" not in printed
    assert not path.exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--small", "--only", "step", "speed"], "there is no check 'speed'; choose from reference, int8-products"),
        (["--device", "cpu"], "--device cpu needs --small"),
    ],
)
def test_wrong_options_are_refused(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    assert complaint in capsys.readouterr().err


def test_the_list_names_every_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [check.name for check in CHECKS]
    assert lines[0].endswith(CHECKS[0].shows)


def test_an_interrupted_run_reports_its_results_so_far(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(rig: Rig, found: Findings) -> None:
        """Ctrl+C is pressed."""
        raise KeyboardInterrupt

    monkeypatch.setattr("gpu.checks.CHECKS", checks(good=good, interrupted=interrupted, late=good))
    path = tmp_path / "result.json"
    assert cli.main(["--small", "--json", str(path)]) == 130
    assert "1 passed on" in capsys.readouterr().out
    assert [check["name"] for check in json.loads(path.read_text())["checks"]] == ["good"]


HIDDEN = """
import importlib.metadata, sys
from importlib.machinery import PathFinder
hidden = ("av", "gradio", "pytest", "ruff")
class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in hidden else super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Hiding
find = importlib.metadata.distribution
def distribution(name):
    if name in hidden:
        raise importlib.metadata.PackageNotFoundError(name)
    return find(name)
importlib.metadata.distribution = distribution
"""


def test_it_runs_without_pyav_gradio_and_pytest(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(HIDDEN)
    path = tmp_path / "result.json"
    arguments = ["--small", "--device", "cpu", "--json", str(path), "--only", "whole-clip", "step"]
    done = run(*arguments, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, done.stderr[-3000:]
    step, clip = json.loads(path.read_text())["checks"]
    assert (step["verdict"], clip["verdict"]) == ("passed", "passed")
    assert "no mp4 was written" in clip["left_out"]["mp4"]
    assert "mp4" not in clip["figures"]


def test_the_launcher_runs_it() -> None:
    """Both launchers run it with all arguments."""
    bash, batch = ((ROOT / name).read_text() for name in ("launch.sh", "launch.bat"))
    assert re.search(r"test-gpu\)\s+shift\s+exec \.venv/bin/python tests/gpu \"\$@\"", bash)
    assert re.search(r":gpu\s+\.venv\\Scripts\\python\.exe tests\\gpu %2 ", batch)
