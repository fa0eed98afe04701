"""`doctor` and `bench`, and wrong values of any command."""

import re
from pathlib import Path

import pytest
from commands import Run, files_below


def test_doctor_reports_and_exits_with_success(run: Run, tiny_bundle: Path) -> None:
    ended = run("doctor", "--ckpt-dir", tiny_bundle)
    assert ended.status == 0
    assert any(line.endswith(f"tiny is complete in {tiny_bundle}") for line in ended.out)
    assert ended.out[-1].endswith("found.")


@pytest.mark.parametrize(
    ("options", "what", "weights"),
    [
        ([], "forward pass", "bf16 weights, 0 of 6 blocks streamed"),
        (["--guided", "--resident", 2], "step with guidance", "bf16 weights, 4 of 6 blocks streamed"),
        (["--limit-gb", 12], "forward pass", "int8 weights, 0 of 6 blocks streamed"),
        (["--weights", "int8", "--resident", 0], "forward pass", "int8 weights, 6 of 6 blocks streamed"),
    ],
)
def test_bench_measures_a_forward_pass(run: Run, options: list[object], what: str, weights: str) -> None:
    ended = run("bench", "demo", "--repeats", 1, *options)
    assert ended.status == 0
    (line,) = ended.out
    number = r"\d+\.\d+"
    rate = rf"{number} TFLOP/s, \d+% of a matrix product's {number}"
    figures = rf"{number} s \(median of 1, fastest {number} s\), {rate}, peak memory {number} GiB"
    assert re.fullmatch(rf"demo, {what}, torch\.\w+ on \w+: {weights}: {figures}", line)


def test_bench_measures_a_whole_clip(run: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    ended = run("bench", "clip", "--steps", 1, "--ckpt-dir", tiny_bundle)
    assert ended.status == 0
    (line,) = ended.out
    assert line.startswith("tiny, 1 steps, torch.")
    assert "decode video" in line
    assert files_below(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("bench", "huge"), "There is no shape 'huge'; choose one of small, demo"),
        (("bench", "demo", "--repeats", 0), "The number of repeats must be 1 or more, not 0."),
        (("bench", "demo", "--limit-gb", 0), "The limit must be more than 0 GB, not 0."),
        (("bench", "clip", "--steps", 0), "The steps must be between 1 and 1000, not 0."),
        (("download", "1080p"), "There is no model variant '1080p'; choose one of 960x960_10s"),
    ],
)
def test_a_command_with_a_wrong_value_ends_with_a_message(
    run: Run, tmp_path: Path, arguments: tuple[object, ...], sentence: str
) -> None:
    ended = run(*arguments)
    assert (ended.status, ended.out) == (1, [])
    (line,) = ended.complaints
    assert line.startswith(f"error: {sentence}")
    assert files_below(tmp_path) == []
