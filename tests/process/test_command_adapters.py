"""Adapters and presets on the command line, and `loras`."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from adapter_helpers import write_adapter
from clip_reading import read_frames
from commands import PROMPT, Run, assert_same_clip

from ovi_studio.media.clip_files import read_record


@pytest.fixture
def loras(tmp_path: Path) -> Path:
    about = {"title": "Old film", "licence": "CC BY 4.0", "trigger_words": ["0ld film"]}
    write_adapter(tmp_path / "loras" / "styles" / "film.safetensors", sidecar=about)
    write_adapter(tmp_path / "loras" / "fast.safetensors", seed=2)
    (tmp_path / "loras" / "old.pt").write_bytes(b"\x80\x04")
    os.utime(tmp_path / "loras" / "old.pt", (0, 0))  # what has just been written may still be incomplete
    return tmp_path / "loras"


def test_adapters_are_given_by_option_and_by_tag(generate: Run, loras: Path) -> None:
    options = ["--steps", 1, "--seed", 3, "--variant", "tiny"]
    plain = generate("--prompt", PROMPT, *options)
    optional = generate("--prompt", PROMPT, "--lora", "film=0.8:0", "--lora", "fast=1;0", *options)
    tagged = generate("--prompt", f"<lora:film:video=0.8:audio=0> {PROMPT} <lora:fast:1;0>", *options)
    records = [read_record(made.paths[0])["spec"] for made in (optional, tagged)]
    assert records[0] == records[1]
    assert [use["name"] for use in records[0]["adapters"]] == ["film", "fast"]
    assert all(len(use["sha256"]) == 64 for use in records[0]["adapters"])
    assert_same_clip(optional.paths[0], tagged.paths[0])
    assert not np.array_equal(read_frames(plain.paths[0]), read_frames(optional.paths[0]))


def test_a_clip_is_reproduced_with_its_adapters_or_with_others(generate: Run, loras: Path) -> None:
    first = generate("--prompt", PROMPT, "--lora", "film", "--steps", 1, "--variant", "tiny").paths[0]
    assert_same_clip(generate("--from", first).paths[0], first)
    other = generate("--from", first, "--lora", "fast").paths[0]
    assert [use["name"] for use in read_record(other)["spec"]["adapters"]] == ["fast"]
    write_adapter(loras / "styles" / "film.safetensors", seed=5)
    refused = generate("--from", first)
    assert refused.status == 1
    assert "is not the file that the clip was made with" in refused.err


def test_explicit_timesteps_are_given_by_option(generate: Run) -> None:
    made = generate("--prompt", PROMPT, "--timesteps", "1000,500,250", "--solver", "restart", "--variant", "tiny")
    spec = read_record(made.paths[0])["spec"]
    assert (spec["timesteps"], spec["steps"], spec["solver"]) == ([1000, 500, 250], 3, "restart")
    refused = generate("--prompt", PROMPT, "--timesteps", "1000,500", "--steps", 3, "--variant", "tiny")
    assert "2 timesteps but 3 steps" in refused.err


def test_a_preset_gives_settings_and_options_replace_them(generate: Run) -> None:
    made = generate("--prompt", PROMPT, "--preset", "draft", "--steps", 1, "--variant", "tiny", "--shift", 3)
    spec = read_record(made.paths[0])["spec"]
    assert (spec["steps"], spec["shift"], spec["video_guidance"]) == (1, 3, 4)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--preset", "nothing"), "no preset 'nothing'; choose one of draft, balanced"),
        (("--preset", "lightning-5s"), "download lightning-5s` (Apache-2.0)"),
        (("--lora", "gone"), "no adapter 'gone'"),
        (("--lora", "film=loud"), "'loud' is not a valid strength"),
        (("--lora", "film=0,8"), "decimal one; write 0.8"),
        (("--lora", "old.pt"), "is a pickle"),
    ],
)
def test_an_unusable_adapter_or_preset_is_one_sentence(
    generate: Run, loras: Path, options: tuple[str, str], reason: str
) -> None:
    refused = generate("--prompt", PROMPT, "--variant", "tiny", *options)
    assert refused.status == 1
    assert reason in refused.err
    assert "Traceback" not in refused.err


def test_loras_lists_the_folder_with_how_each_file_fits(run: Run, loras: Path, tiny_bundle: Path) -> None:
    listed = run("loras", "--ckpt-dir", tiny_bundle)
    assert listed.status == 0
    assert listed.out[0] == "Matched with tiny, the best complete model; --variant names another one."
    text = "\n".join(listed.out)
    assert "styles/film.safetensors" in text
    assert "4 of 4 layers matched" in text
    assert "video 2 of" in text
    assert "title: Old film; licence: CC BY 4.0; trigger words: 0ld film" in text
    assert "old.pt is a pickle" in text


def test_loras_needs_neither_torch_nor_weights(loras: Path, python_environment: dict[str, str]) -> None:
    script = (
        "import sys; from ovi_studio.__main__ import main; main(['loras', '--variant', '960x960_5s']); "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=python_environment, cwd=loras.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "does not match this model" in done.stdout
    assert "is a pickle" in done.stdout


def test_an_empty_folder_says_where_to_put_adapters(run: Run) -> None:
    assert "put .safetensors files or PEFT folders there" in run("loras").out[0]
