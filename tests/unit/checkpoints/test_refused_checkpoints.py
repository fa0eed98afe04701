"""No bad file gets through: of another model, damaged, or with code in it; each is refused by its name."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from official_checkpoints import OFFICIAL, load, load_bundle, official_path, official_tensors, part_path
from safetensors.torch import load_file, save_file
from torch import Tensor

from ovi_studio.checkpoints.layout import require
from ovi_studio.checkpoints.load import read_tensors
from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import Part

# Files that hold another model


def change_shape(tensors: dict[str, Tensor]) -> None:
    tensors["video_model.head.head.bias"] = torch.zeros(7)


def lose_one(tensors: dict[str, Tensor]) -> None:
    del tensors["audio_model.blocks.1.cross_attn.k_fusion.weight"]


def add_one(tensors: dict[str, Tensor]) -> None:
    tensors["video_model.blocks.2.norm3.bias"] = torch.zeros(32)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (change_shape, r"video_model\.head\.head\.bias has shape \(7,\) instead of \(32,\)"),
        (lose_one, r"1 tensors missing, 0 too many, such as audio_model\.blocks\.1\.cross_attn\.k_fusion\.weight"),
        (add_one, r"0 tensors missing, 1 too many, such as video_model\.blocks\.2\.norm3\.bias"),
    ],
)
def test_a_file_of_another_model_is_refused_by_name(
    bundle: Path, spoil: Callable[[dict[str, Tensor]], None], reason: str
) -> None:
    path = part_path(bundle, Part.TRANSFORMER)
    tensors = load_file(path)
    spoil(tensors)
    save_file(tensors, path)
    with pytest.raises(
        JobError, match=rf"model\.safetensors is not the transformer of variant tiny \({reason}\)"
    ) as error:
        load_bundle(bundle)
    assert str(path) in str(error.value)


def test_the_file_of_another_part_is_refused_by_name(bundle: Path) -> None:
    vae = part_path(bundle, Part.VIDEO_VAE)
    shutil.copy(part_path(bundle, Part.TEXT_ENCODER), vae)
    with pytest.raises(JobError, match="is not the video VAE of variant tiny") as error:
        load_bundle(bundle)
    assert str(vae) in str(error.value)


@pytest.mark.slow
def test_half_of_a_weight_norm_pair_is_refused_by_name(official: Path) -> None:
    path = official_path(official, Part.VOCODER)
    tensors = official_tensors(Part.VOCODER)
    del tensors["conv_pre.parametrizations.weight.original0"]
    torch.save({"generator": tensors}, path)
    with pytest.raises(JobError, match="is not the vocoder of variant") as error:
        load(OFFICIAL, official)
    assert str(path) in str(error.value)


def test_a_folder_without_a_tokenizer_is_refused_by_name(bundle: Path) -> None:
    path = part_path(bundle, Part.TOKENIZER)
    path.write_text('{"no": "tokenizer"}')
    with pytest.raises(JobError, match=r"The tokenizer in .* cannot be read") as error:
        load_bundle(bundle)
    assert str(path.parent) in str(error.value)


# Damaged and hostile files

WEB_PAGE = b"<!DOCTYPE html><html><title>Log in</title></html>"


def test_a_web_page_in_place_of_a_file_is_refused_before_loading(bundle: Path) -> None:
    path = part_path(bundle, Part.TRANSFORMER)
    path.write_bytes(WEB_PAGE)
    with pytest.raises(JobError, match="is a web page, not a model file") as error:
        require("tiny", bundle)
    assert str(path) in str(error.value)


def saved(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def cut(path: Path, size: int) -> Path:
    path.write_bytes(path.read_bytes()[:size])
    return path


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def stored(folder: Path) -> Path:
    path = folder / "model.safetensors"
    save_file({"a": torch.zeros(1000)}, path)
    return path


TENSORS = {"a": torch.zeros(1000)}
OLD = {"_use_new_zipfile_serialization": False}


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda folder: cut(stored(folder), 2000), id="safetensors cut in its data"),
        pytest.param(lambda folder: cut(stored(folder), 20), id="safetensors cut in its header"),
        pytest.param(lambda folder: cut(stored(folder), 0), id="safetensors empty"),
        pytest.param(lambda folder: written(folder / "model.safetensors", WEB_PAGE), id="safetensors is a web page"),
        pytest.param(lambda folder: written(folder / "model.pth", WEB_PAGE), id="pth is a web page"),
        pytest.param(lambda folder: cut(saved(folder / "model.pth", TENSORS), 2000), id="pth cut"),
        pytest.param(lambda folder: cut(saved(folder / "model.pth", TENSORS), 0), id="pth empty"),
        pytest.param(lambda folder: cut(saved(folder / "model.pt", TENSORS, **OLD), 1000), id="old pt cut in its data"),
        pytest.param(lambda folder: cut(saved(folder / "model.pt", TENSORS, **OLD), 30), id="old pt cut at its start"),
        pytest.param(lambda folder: written(folder / "model.pt", b"\x80\x02garbage"), id="pt is noise"),
        pytest.param(lambda folder: saved(folder / "model.pth", [torch.zeros(2)]), id="pth holds a list"),
        pytest.param(lambda folder: saved(folder / "model.pth", torch.zeros(2)), id="pth holds one tensor"),
        pytest.param(lambda folder: saved(folder / "model.pth", {"step": 3, "model": TENSORS}), id="pth holds a run"),
        pytest.param(lambda folder: folder / "missing.safetensors", id="safetensors missing"),
        pytest.param(lambda folder: folder / "missing.pth", id="pth missing"),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path)
    with pytest.raises(JobError, match="cannot be read as a checkpoint") as error:
        list(read_tensors(path))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


class Hostile:
    """Unpickling it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.folder,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("kind", ["zip", "old", "plain"])
def test_code_in_a_file_is_not_run(tmp_path: Path, kind: str) -> None:
    path, trace = tmp_path / "model.pth", tmp_path / "trace"
    content = {"a": torch.zeros(3), "b": Hostile(trace)}
    if kind == "plain":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(JobError, match="contains more than tensors") as error:
        list(read_tensors(path))
    assert "weights_only" not in str(error.value)
    assert not trace.exists()
    # The file was a real danger: read without care, it does what it says.
    if kind == "plain":
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert trace.exists()
