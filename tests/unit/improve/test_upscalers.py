"""Upscalers: files that are used as they are, and files that are refused with a reason; tiles that show no seam."""

import importlib.util
import pickle
from contextlib import suppress
from pathlib import Path
from unittest import mock

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from upscaler_files import compact_tensors, write_upscaler

from ovi_studio.core.errors import JobError, Stopped
from ovi_studio.core.improvement import Improvement
from ovi_studio.improve import spandrel_import
from ovi_studio.improve.tiles import upscale_in_tiles
from ovi_studio.improve.upscaler import Upscaler
from ovi_studio.improve.upscaler_library import UpscalerLibrary

needs_spandrel = pytest.mark.skipif(
    importlib.util.find_spec("spandrel") is None, reason="the extra `improve` is not installed"
)
CPU = torch.device("cpu")


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def ignore(_: float) -> None:
    pass


# Tiles


@pytest.mark.parametrize(("height", "width"), [(64, 64), (200, 80), (150, 193)])
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_tiles_agree_with_the_whole_picture(height, width, scale):
    torch.manual_seed(0)
    convolutions = nn.Sequential(nn.Conv2d(3, 4, 5, padding=2), nn.ReLU(), nn.Conv2d(4, 3 * scale**2, 5, padding=2))
    model = nn.Sequential(convolutions, nn.PixelShuffle(scale)).requires_grad_(False)
    picture = torch.from_numpy(noise(height, width)).permute(2, 0, 1).float() / 255
    tiled = upscale_in_tiles(picture, model, scale, 64, ignore)
    assert torch.allclose(tiled, model(picture[None])[0], atol=1e-5)


def test_tiles_of_a_model_that_sees_the_whole_picture_show_no_seam():
    columns = torch.linspace(0, 1, 256).expand(3, 64, 256)
    # Each tile is darkened by its own mean: at a hard border, one step of the ramp would be fifty times as high.
    tiled = upscale_in_tiles(columns, lambda tile: tile - tile.mean() / 4, 1, 64, ignore)
    steps = tiled[:, :, 1:] - tiled[:, :, :-1]
    assert steps.abs().max() < 3 / 255


def test_each_tile_reports_and_can_end_the_work():
    seen = []

    def report(done: float) -> None:
        seen.append(done)
        if len(seen) == 2:
            raise Stopped

    with pytest.raises(Stopped):
        upscale_in_tiles(torch.zeros(3, 192, 64), lambda tile: tile, 1, 64, report)
    assert seen == [1 / 3, 2 / 3]


# Files


@needs_spandrel
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_both_kinds_of_file_give_the_same_picture(tmp_path, scale):
    new = Upscaler.load("a", write_upscaler(tmp_path / "a.safetensors", scale), CPU)
    old = Upscaler.load("b", write_upscaler(tmp_path / "b.pth", scale), CPU)
    frame = noise(40, 56)
    assert new(frame, ignore).shape == (40 * scale, 56 * scale, 3)
    assert np.array_equal(new(frame, ignore), old(frame, ignore))
    assert new.scale == scale


@needs_spandrel
def test_upscaler_gives_what_spandrel_gives(tmp_path):
    path = write_upscaler(tmp_path / "a.safetensors", 2)
    spandrel = spandrel_import.import_spandrel()
    model = spandrel.ModelLoader().load_from_file(path).eval()
    frame = noise(100, 260)
    whole = model(torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255)[0].permute(1, 2, 0)
    found = Upscaler.load("a", path, CPU)(frame, ignore)
    assert np.abs(found.astype(int) - (whole * 255).round().numpy().astype(int)).max() <= 1


class Code:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


def with_code(path: Path) -> None:
    torch.save({"params": {"weight": Code()}}, path)


def plain_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Code()))


REFUSED = {
    "code.pth": (with_code, "more than weights"),
    "pickle.pth": (plain_pickle, "more than weights"),
    "text.pth": (lambda path: path.write_text("<!DOCTYPE html>"), "perhaps a web page"),
    "empty.pth": (lambda path: path.write_bytes(b""), "perhaps a web page"),
    "stack.pth": (lambda path: path.write_bytes(b"\x80\x02aaaa"), "damaged"),
    "short.pth": (lambda path: path.write_bytes(b"\x80\x02M"), "damaged"),
    "list.pth": (lambda path: torch.save([torch.zeros(2)], path), "no tensors by name"),
    "text.safetensors": (lambda path: path.write_text("no model"), "damaged"),
    "lora.safetensors": (lambda path: save_file({"lora_A": torch.zeros(4, 4)}, path), "spandrel does not know it"),
    "gray.safetensors": (lambda path: save_file(compact_tensors(2, channels=(1, 1)), path), "with 1 channel;"),
    "alpha.safetensors": (lambda path: save_file(compact_tensors(2, channels=(4, 4)), path), "4 channels"),
    "eight.safetensors": (lambda path: save_file(compact_tensors(8), path), "8 times as large"),
    "nan.safetensors": (
        lambda path: save_file({**compact_tensors(2), "body.0.bias": torch.full((8,), float("nan"))}, path),
        "NaN",
    ),
}


@needs_spandrel
@pytest.mark.parametrize("name", REFUSED)
def test_file_that_is_no_upscaler_is_refused_with_the_reason(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write, reason = REFUSED[name]
    write(tmp_path / name)
    with pytest.raises(JobError, match=reason):
        Upscaler.load(name, tmp_path / name, CPU)
    assert not Path("executed").exists()


@needs_spandrel
@pytest.mark.parametrize(
    ("purpose", "masked", "reason"), [("FaceSR", False, "single faces"), ("Inpainting", True, "mask")]
)
def test_model_for_something_else_is_refused(tmp_path, monkeypatch, purpose, masked, reason):
    spandrel = spandrel_import.import_spandrel()
    kind = spandrel.MaskedImageModelDescriptor if masked else spandrel.ImageModelDescriptor
    model = mock.Mock(spec=kind, purpose=purpose, input_channels=3, output_channels=3, scale=1)
    monkeypatch.setattr(spandrel.MAIN_REGISTRY, "load", lambda tensors: model)
    with pytest.raises(JobError, match=reason):
        Upscaler.load("other", write_upscaler(tmp_path / "other.pth"), CPU)


@needs_spandrel
def test_model_that_overflows_fails_with_a_sentence(tmp_path):
    huge = {name: value * 1e30 for name, value in compact_tensors(2).items()}
    save_file(huge, tmp_path / "huge.safetensors")
    with pytest.raises(JobError, match="NaN or infinite"):
        Upscaler.load("huge", tmp_path / "huge.safetensors", CPU)(noise(16, 16), ignore)


@needs_spandrel
def test_file_that_is_larger_than_memory_is_not_read(tmp_path, monkeypatch):
    path = write_upscaler(tmp_path / "large.safetensors")
    memory = psutil.virtual_memory()._replace(available=path.stat().st_size)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    with pytest.raises(JobError, match="memory are free"):
        Upscaler.load("large", path, CPU)


def test_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(spandrel_import.sys.modules, "spandrel", None)
    monkeypatch.delitem(spandrel_import.sys.modules, "spandrel")
    monkeypatch.setattr(
        "ovi_studio.core.extras.importlib.import_module", lambda name: (_ for _ in ()).throw(ImportError)
    )
    with pytest.raises(JobError, match=r"\.\[improve\]"):
        Upscaler.load("a", tmp_path / "a.safetensors", CPU)


# The folder


def test_library_finds_upscalers_by_name_and_never_leaves_its_folder(tmp_path):
    library = UpscalerLibrary(tmp_path / "upscalers")
    assert library.scan() == []
    (tmp_path / "upscalers").mkdir()
    with suppress(OSError):  # not every file system takes such a name
        (tmp_path / "upscalers" / "\udcff.pth").touch()
    with pytest.raises(JobError, match="the folder is empty"):
        library.find("a")
    outside = write_upscaler(tmp_path / "outside.pth")
    for name in ("a.pth", "a.safetensors", "old/b.pth"):
        write_upscaler(tmp_path / "upscalers" / name)
    (tmp_path / "upscalers" / "link.pth").symlink_to(outside)
    assert [entry.name for entry in library.scan()] == ["a", "old/b"]
    assert library.find("a").path.suffix == ".safetensors"
    assert library.find("old/b.pth").name == "old/b"
    for name in ("link", "../outside", str(outside), ""):
        with pytest.raises(JobError, match="a, old/b"):
            library.find(name)


def test_upscaler_that_was_replaced_is_refused(tmp_path):
    library = UpscalerLibrary(tmp_path)
    write_upscaler(tmp_path / "a.pth", 2)
    pinned = library.pin(Improvement("a.pth"))
    assert pinned.upscaler == "a"
    assert library.pin(pinned) == pinned
    write_upscaler(tmp_path / "a.pth", 3)
    with pytest.raises(JobError, match="another file"):
        library.pin(pinned)


@pytest.mark.parametrize(
    "values", [{}, {"fps": 24}, {"fps": True}, {"fps": "48"}, {"upscaler": ""}, {"upscaler": 3}, {"scale": 2}]
)
def test_improvement_that_is_none_is_refused(values):
    with pytest.raises(JobError):
        Improvement.from_dict(values)
