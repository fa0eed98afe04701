"""A hub on this machine, since nothing here touches the network; and checkpoint files to be changed."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import torch
from hub_server import HubServer
from hub_variant import fill_hub
from official_checkpoints import WEIGHTS, official_path, official_tensors
from safetensors.torch import save_file

from ovi_studio.checkpoints import download, meter
from ovi_studio.core.variants import Part
from ovi_studio.runtime.pipeline import Pipeline


@pytest.fixture(autouse=True, scope="module")
def no_proxy() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1,localhost")
        huggingface_hub.close_session()  # the next one reads it
        yield
    huggingface_hub.close_session()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    fill_hub(tmp_path / "hub")
    monkeypatch.setattr(download, "RETRY_WAITS", (0.0, 0.0))
    monkeypatch.setattr(meter, "REPORT_INTERVAL", 0.0)
    # Otherwise huggingface_hub asks its own endpoint, as it was at import, for the programs that it wants to recognise.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setenv("OVI_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with HubServer(tmp_path / "hub") as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "ckpts"


@pytest.fixture
def converted(tmp_path: Path, tiny_pipeline: Pipeline) -> Path:
    """Everything as safetensors under the official names."""
    directory = tmp_path / "converted"
    for part in WEIGHTS:
        save_file(official_tensors(part), official_path(directory, part).with_suffix(".safetensors"))
    tiny_pipeline.models.tokenizer.save_pretrained(directory / "wan" / "tokenizer")
    return directory


@pytest.fixture
def official(tmp_path: Path, converted: Path) -> Path:
    """As the official code's download leaves it: four files of `torch.save`."""
    directory = tmp_path / "official"
    shutil.copytree(converted / "wan", directory / "wan")
    for part in WEIGHTS:
        path, tensors = official_path(directory, part), official_tensors(part)
        if path.suffix == ".safetensors":
            save_file(tensors, path)
        elif part is Part.VOCODER:
            torch.save({"generator": tensors}, path)
        else:
            torch.save(tensors, path)
    return directory


@pytest.fixture
def bundle(tmp_path: Path, tiny_bundle: Path) -> Path:
    """A copy of the tiny bundle to be changed."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
