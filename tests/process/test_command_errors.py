"""What a command cannot do is one sentence, with status 1, and nothing is written."""

import re
from pathlib import Path

import pytest
from commands import PROMPT, Run, files_below


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--variant", "1080p"], r"There is no model variant '1080p'; choose one of .*, tiny, demo\."),
        (["--size", "big"], r"Size 'big' is not HEIGHTxWIDTH, for example 704x1280\."),
        (["--size", "10x1000"], r"Size 10x1000 is too long and thin"),
        (["--steps", "0"], r"The steps must be between 1 and 1000, not 0\."),
        (["--seed", "-2"], r"The seed must be between 0 and"),
        (["--count", "0"], r"The count must be 1 or more, not 0\."),
        (["--prompt", ""], r"The prompt is empty; write what the clip should show and sound like\."),
        (["--image", "gone.png"], r".*gone\.png"),
        (["--slg-layer", "9"], r"Skip-layer block 9 does not exist: tiny has blocks 0 to 1\."),
        (["--attention", "magic"], r"'magic' is not a valid value for --attention; choose one of auto, native"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_invalid_command_is_refused_in_one_line(
    generate: Run, tmp_path: Path, options: list[str], sentence: str
) -> None:
    prompt = [] if "--prompt" in options else ["--prompt", PROMPT]
    ended = generate(*prompt, *options)
    assert ended.status == 1
    assert ended.out == []
    (line,) = ended.complaints
    assert re.match(f"error: {sentence}", line)
    assert files_below(tmp_path) == []


def test_missing_checkpoints_are_named_with_the_download_command(run: Run, tmp_path: Path) -> None:
    ended = run("generate", "--prompt", PROMPT, "--variant", "960x960_5s", "--ckpt-dir", tmp_path / "ckpts")
    assert ended.status == 1
    (line,) = ended.complaints
    assert line.startswith("error: Variant 960x960_5s is not complete: ")
    for name in ("model_960x960.safetensors", "Wan2.2_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth", "v1-16.pth"):
        assert f"{name} is missing" in line
    assert f"`python -m ovi_studio download 960x960_5s --ckpt-dir {tmp_path / 'ckpts'}` fetches it" in line
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_an_unusable_output_folder_is_refused_before_a_clip_is_made(
    run: Run, tmp_path: Path, tiny_bundle: Path, place: str
) -> None:
    (tmp_path / "file").write_text("not a folder")
    ended = run("generate", "--prompt", PROMPT, "--ckpt-dir", tiny_bundle, "--out", place, "--steps", 1000)
    assert ended.status == 1
    assert ended.complaints == [f"error: The output folder {place} is a file or below a file; choose another one."]
    assert files_below(tmp_path) == [tmp_path / "file"]


def test_a_file_that_is_not_a_clip_is_refused(generate: Run, run: Run, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.mp4"
    stranger.write_bytes(b"\0\0\0\x08ftyp")
    for ended in (run("show", stranger), generate("--from", stranger), run("show", tmp_path / "gone.mp4")):
        assert ended.status == 1
        assert ended.complaints[0].startswith("error: ")
        assert len(ended.complaints) == 1
    assert files_below(tmp_path) == [stranger]


@pytest.mark.parametrize("command", ["generate", "download", "bench"])
def test_a_broken_bundle_is_reported_in_one_message(run: Run, tmp_path: Path, command: str) -> None:
    (tmp_path / "ckpts").mkdir()
    (tmp_path / "ckpts" / "bundle.json").write_text("{}")
    arguments = {"generate": ["--prompt", PROMPT], "download": ["960x960_5s"], "bench": ["clip"]}
    ended = run(command, *arguments[command], "--ckpt-dir", tmp_path / "ckpts")
    assert ended.status == 1
    (line,) = ended.complaints
    assert line.startswith(f"error: {tmp_path / 'ckpts' / 'bundle.json'} does not describe a model bundle")


def test_two_sources_of_clips_are_a_usage_error(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run("generate", "--prompt", PROMPT, "--prompts", "table.csv")
    assert ended.value.code == 2
    assert "not allowed with" in capsys.readouterr().err
