"""Image models: found by their names, downloaded from a local hub, and checked before anything is loaded."""

import argparse
import json
from pathlib import Path

import pytest
from hub_server import HubServer

from ovi_studio.checkpoints.image_model import (
    chosen_files,
    find_folder,
    image_models,
    plan_image_model,
    require_image_model,
)
from ovi_studio.cli.download import COMMAND
from ovi_studio.core.drawing import OFFICIAL_MODEL
from ovi_studio.core.errors import JobError

NAME = "painter/small"
INDEX = {
    "_class_name": "FluxPipeline",
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "transformer": ["diffusers", "FluxTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": [None, None],
}


def weights(count: int) -> bytes:
    header = json.dumps({"a": {"dtype": "BF16", "shape": [count], "data_offsets": [0, 2 * count]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(2 * count)


def write(folder: Path, **changes: bytes | None) -> Path:
    """A model with everything that repositories have; `changes` are files by their path with `__` for `/`."""
    shards = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    files: dict[str, bytes | None] = {
        "model_index.json": json.dumps(INDEX).encode(),
        "README.md": b"about",
        "small.safetensors": weights(50),
        "scheduler/scheduler_config.json": b"{}",
        "transformer/config.json": b"{}",
        "transformer/model.safetensors.index.json": json.dumps(shards).encode(),
        "transformer/model-1.safetensors": weights(3),
        "transformer/model-2.safetensors": weights(4),
        "vae/config.json": b"{}",
        "vae/model.safetensors": weights(5),
        "vae/model.fp16.safetensors": weights(5),
        "vae/model.bin": b"pickle",
        "onnx/model.safetensors": weights(9),
    }
    for path, content in (files | {name.replace("__", "/"): content for name, content in changes.items()}).items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if content is not None:
            target.write_bytes(content)
    return folder


def download(directory: Path, name: str = NAME, *more: str) -> int:
    parser = argparse.ArgumentParser()
    COMMAND.add_options(parser)
    return COMMAND.run(parser.parse_args([name, "--ckpt-dir", str(directory), *more]))


@pytest.mark.slow
def test_download_fetches_what_the_pipeline_reads_and_says_size_and_licence(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(hub.root / NAME)
    assert download(tmp_path, NAME, "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "own-licence; gated" in shown
    assert not (tmp_path / "painter").exists()
    assert download(tmp_path) == 0
    found = {path.relative_to(tmp_path / NAME).as_posix() for path in (tmp_path / NAME).rglob("*") if path.is_file()}
    assert found == {
        "model_index.json",
        "scheduler/scheduler_config.json",
        "transformer/config.json",
        "transformer/model.safetensors.index.json",
        "transformer/model-1.safetensors",
        "transformer/model-2.safetensors",
        "vae/config.json",
        "vae/model.safetensors",
    }
    assert {request.token for request in hub.requests} == {"Bearer hf_secret"}
    assert require_image_model(NAME, tmp_path).parameters == {"transformer": 7, "vae": 5}
    assert image_models(tmp_path) == [NAME]
    assert download(tmp_path) == 0  # nothing is missing
    assert plan_image_model(NAME, tmp_path).files == ()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model_index.json": b'{"_class_name": ["own", "Own"]}'}, "trust_remote_code"),
        ({"transformer__own.py": b""}, "trust_remote_code"),
        ({"model_index.json": b"[]"}, "names no pipeline"),
        ({"model_index.json": b'{"_class_name": "X", "onnx2": ["diffusers", "Y"]}'}, "no safetensors files"),
    ],
)
def test_a_repository_that_cannot_be_used_is_refused_before_it_is_fetched(
    changes: dict[str, bytes], sentence: str, hub: HubServer, tmp_path: Path
) -> None:
    write(hub.root / NAME, **changes)
    with pytest.raises(JobError, match=sentence):
        download(tmp_path)
    assert not (tmp_path / "painter").exists()


@pytest.mark.parametrize("part", ["..", "../vae", "a/b", "C:"])
def test_a_part_outside_its_model_is_refused(part: str, tmp_path: Path) -> None:
    index = json.dumps(INDEX | {part: ["diffusers", "AutoencoderKL"]}).encode()
    write(tmp_path / NAME, **{"model_index.json": index})
    with pytest.raises(JobError, match="names no pipeline"):
        require_image_model(NAME, tmp_path)


@pytest.mark.parametrize("name", ["..\\..\\x.json", "../x.json", "b/x.json", ".json"])
def test_files_outside_a_part_are_not_fetched(name: str) -> None:
    assert chosen_files([f"vae/{name}", "vae/config.json"], ["vae"]) == ["model_index.json", "vae/config.json"]


def test_a_gated_model_without_access_says_what_to_do(hub: HubServer, tmp_path: Path) -> None:
    write(hub.root / NAME)
    hub.faults.status_of[NAME] = 401
    with pytest.raises(JobError, match=r"accept its terms at .*painter/small and set HF_TOKEN"):
        download(tmp_path)


def test_the_hash_depends_on_every_file_that_is_read_and_on_no_other(tmp_path: Path) -> None:
    def digest(folder: Path) -> str:
        return require_image_model(str(folder), tmp_path).hashes().result()

    first = digest(write(tmp_path / "a"))
    assert digest(write(tmp_path / "b", **{"README.md": b"other"})) == first
    (tmp_path / "b" / "vae" / "config.json").write_text('{"a": 1}')
    assert digest(tmp_path / "b") != first


def test_a_model_is_found_below_the_checkpoints_and_in_the_hubs_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "ckpts" / "own")
    (tmp_path / "ckpts" / "wan").mkdir()
    (tmp_path / "ckpts" / "wan" / "model_index.json").write_text('{"_class_name": "WanPipeline"}')
    assert require_image_model("own", tmp_path / "ckpts").name == "own"
    assert image_models(tmp_path / "ckpts") == ["own"]
    assert find_folder("../ckpts/own", tmp_path / "ckpts") is None
    cached = tmp_path / "hub" / "models--black-forest-labs--FLUX.1-Krea-dev"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    write(cached / "snapshots" / "abc")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    assert find_folder(OFFICIAL_MODEL, tmp_path / "ckpts") == cached / "snapshots" / "abc"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"transformer__model-2.safetensors": None}, "model-2.safetensors is missing"),
        ({"vae__model.safetensors": b"short"}, "model.safetensors is not a safetensors file"),
    ],
)
def test_an_incomplete_model_is_refused(changes: dict[str, bytes | None], sentence: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "own", **changes)
    with pytest.raises(JobError, match=sentence):
        require_image_model(str(folder), tmp_path)
