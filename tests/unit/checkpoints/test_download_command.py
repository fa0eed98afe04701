"""`download` with files that are elsewhere on the machine, from a local hub."""

import argparse
import hashlib
import time
from pathlib import Path

import pytest
from hub_server import HubServer
from model_files import (
    AUDIO_VAE,
    COMFY_TEXT_ENCODER,
    TRANSFORMER,
    VARIANT,
    VIDEO_VAE,
    VIDEO_VAE_OF_WAN_2_1,
    VOCODER,
    write_model,
)

from ovi_studio.checkpoints import background
from ovi_studio.checkpoints.background import DownloadPhase, Downloads
from ovi_studio.checkpoints.layout import take_inventory
from ovi_studio.cli.download import COMMAND
from ovi_studio.core import variants
from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import Part


@pytest.fixture
def comfyui(tmp_path: Path) -> Path:
    """Everything but the tokenizer."""
    models = tmp_path / "ComfyUI" / "models"
    write_model(models / "vae" / "wan2.2_vae.safetensors", VIDEO_VAE, "F16")
    write_model(models / "vae" / "wan_2.1_vae.safetensors", VIDEO_VAE_OF_WAN_2_1)
    write_model(models / "vae" / "mmaudio_vae_16k_bf16.safetensors", AUDIO_VAE)
    write_model(models / "vae" / "mmaudio_vocoder_bigvgan.safetensors", VOCODER)
    write_model(models / "text_encoders" / "umt5_xxl_fp16.safetensors", COMFY_TEXT_ENCODER, "F16")
    write_model(models / "diffusion_models" / "ovi_720x720_bf16.safetensors", TRANSFORMER)
    return models


@pytest.fixture
def hub_of_tokenizer(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    for source in VARIANT.files[Part.TOKENIZER]:
        path = hub.root / source.repository / source.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"small": true}')
    monkeypatch.setattr(variants, "known_variants", lambda _: {VARIANT.name: VARIANT})
    monkeypatch.setattr(background, "published_variants", lambda: {VARIANT.name: VARIANT})
    return hub


def run(directory: Path, *arguments: str) -> int:
    parser = argparse.ArgumentParser()
    COMMAND.add_options(parser)
    return COMMAND.run(parser.parse_args([VARIANT.name, "--ckpt-dir", str(directory), *arguments]))


def test_what_is_elsewhere_is_linked_and_only_the_rest_is_downloaded(
    hub_of_tokenizer: HubServer, directory: Path, comfyui: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: hashlib.sha256(path.read_bytes()).digest() for path in comfyui.rglob("*.safetensors")}
    assert run(directory, "--look-in", str(comfyui)) == 0
    assert take_inventory(VARIANT, directory).complete
    assert {Path(request.file).parent.name for request in hub_of_tokenizer.requests} == {"umt5-xxl"}
    text = capsys.readouterr().out
    assert f"found  video VAE: {comfyui / 'vae' / 'wan2.2_vae.safetensors'} (F16)" in text
    assert "wan_2.1_vae" not in text
    assert {path: hashlib.sha256(path.read_bytes()).digest() for path in before} == before
    # The folder need not be named again.
    hub_of_tokenizer.requests.clear()
    assert run(directory) == 0
    assert hub_of_tokenizer.requests == []


def test_a_dry_run_tells_what_is_elsewhere_and_what_is_missing_and_changes_nothing(
    hub_of_tokenizer: HubServer, directory: Path, comfyui: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(directory, "--look-in", str(comfyui), "--dry-run") == 0
    text = capsys.readouterr().out
    assert text.count("found  ") == 5
    assert "google/umt5-xxl/tokenizer.json" in text
    assert "Wan2.2_VAE.pth" not in text
    assert not directory.exists()


def test_a_folder_that_does_not_exist_is_one_sentence(directory: Path) -> None:
    with pytest.raises(JobError, match=r"--look-in .*nowhere is not a folder; name one that exists\."):
        run(directory, "--look-in", str(directory / "nowhere"))


def test_the_page_downloads_only_what_is_not_on_the_machine(
    hub_of_tokenizer: HubServer, directory: Path, comfyui: Path
) -> None:
    directory.mkdir()
    (directory / "comfyui").symlink_to(comfyui, target_is_directory=True)
    downloads = Downloads(directory)
    downloads.start(VARIANT.name)
    end = time.monotonic() + 20
    while downloads.state().busy and time.monotonic() < end:
        time.sleep(0.02)
    assert downloads.state().phase is DownloadPhase.DONE, downloads.state().reason
    assert take_inventory(VARIANT, directory).complete
    assert {Path(request.file).parent.name for request in hub_of_tokenizer.requests} == {"umt5-xxl"}
