"""Checkpoint files into models: every layout gives the same ones, no bad file gets through, none is in memory twice."""

import dataclasses
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import save_torch_state_dict
from places import REFERENCE
from safetensors.torch import load_file, save_file
from torch import Tensor

from ovi_studio.checkpoints.adopt import adopt
from ovi_studio.checkpoints.keys import TEXT_ENCODER_RULES, rename
from ovi_studio.checkpoints.layout import require, take_inventory
from ovi_studio.checkpoints.load import (
    Models,
    StoredTensors,
    load_models,
    read_tensors,
    stored_tensors,
    text_encoder_format,
    transformer_format,
    video_vae_tensors,
)
from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.variants import Part, Variant, published_variants
from ovi_studio.core.weight_formats import Weights
from ovi_studio.models.transformer import OviTransformer
from ovi_studio.models.video_vae import decode_whole, encode
from ovi_studio.runtime.pipeline import Pipeline

CPU = torch.device("cpu")
SPEC = ClipSpec(prompt="a red ball bounces on a green floor", variant="tiny", steps=1)
FREE_BYTES = 6 * 10**9
"""On the disk, for the test with a large file."""


def load(variant: Variant, directory: Path, dtype: torch.dtype = torch.float32) -> Models:
    inventory = take_inventory(variant, directory)
    assert inventory.problems == ()
    return load_models(inventory, CPU, dtype)


def tensors_of(models: Models) -> dict[str, Tensor]:
    parts = (models.transformer, models.text_encoder, models.video_vae, models.audio_vae, models.vocoder)
    return {
        f"{number}.{name}": tensor for number, part in enumerate(parts) for name, tensor in part.state_dict().items()
    }


def assert_same(one: Models, other: Models) -> None:
    left, right = tensors_of(one), tensors_of(other)
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []


# The layout of the official code, with its names of files and tensors


def read_json(name: str) -> dict[str, Any]:
    return json.loads((REFERENCE / f"{name}.config.json").read_text())


OFFICIAL = dataclasses.replace(
    published_variants()["720x720_5s"],
    dimensions={name: read_json(name) for name in ("fusion", "video_vae", "text_encoder", "audio_codec")},
)
WEIGHTS = {
    Part.TRANSFORMER: "fusion.weights",
    Part.TEXT_ENCODER: "text_encoder.weights",
    Part.VIDEO_VAE: "video_vae.weights",
    Part.AUDIO_VAE: "audio_codec.vae",
    Part.VOCODER: "audio_codec.vocoder",
}


def official_tensors(part: Part) -> dict[str, Tensor]:
    return load_file(REFERENCE / f"{WEIGHTS[part]}.safetensors")


def official_path(directory: Path, part: Part) -> Path:
    path = directory / OFFICIAL.files[part][0].location
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


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


@torch.no_grad()
def outputs(models: Models) -> list[Tensor]:
    """What every model makes of fixed inputs."""

    def random(*size: int) -> Tensor:
        return torch.randn(size, generator=torch.Generator().manual_seed(0))

    text = models.transformer.prepare_text(random(1, 5, 32), random(1, 5, 32))
    return [
        *models.transformer(random(1, 8, 2, 4, 4), random(1, 9, 20), torch.tensor([500.0]), text),
        models.text_encoder(input_ids=torch.arange(12).view(2, 6)).last_hidden_state,
        encode(models.video_vae, random(1, 3, 1, 32, 32).clamp(-1, 1)),
        decode_whole(models.video_vae, random(8, 2, 2, 2)),
        models.vocoder(models.audio_vae.decode(random(1, 20, 6))),
    ]


@pytest.mark.slow
def test_official_files_give_the_same_models_as_safetensors(official: Path, converted: Path) -> None:
    names = {path.name for path in official.rglob("*") if path.suffix in {".pth", ".pt"}}
    assert names == {"Wan2.2_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth", "v1-16.pth", "best_netG.pt"}
    one, other = load(OFFICIAL, official), load(OFFICIAL, converted)
    assert_same(one, other)
    for left, right in zip(outputs(one), outputs(other), strict=True):
        assert torch.equal(left, right)
        assert left.std() > 0


@pytest.mark.slow
def test_a_file_of_an_older_torch_is_read_too(official: Path, converted: Path) -> None:
    path = official_path(official, Part.VOCODER)
    content = {"generator": official_tensors(Part.VOCODER)}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    assert not path.read_bytes().startswith(b"PK")
    assert_same(load(OFFICIAL, official), load(OFFICIAL, converted))


@pytest.mark.slow
def test_a_vocoder_file_without_its_training_state_is_read_too(official: Path, converted: Path) -> None:
    torch.save(official_tensors(Part.VOCODER), official_path(official, Part.VOCODER))
    assert_same(load(OFFICIAL, official), load(OFFICIAL, converted))


@pytest.mark.slow
def test_models_are_for_inference_and_in_one_dtype(official: Path) -> None:
    models = load(OFFICIAL, official, torch.bfloat16)
    for model in (models.transformer, models.text_encoder, models.video_vae):
        assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
        assert not model.training
        assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.slow
def test_the_audio_codec_stays_in_float32(official: Path, converted: Path) -> None:
    low, full = load(OFFICIAL, official, torch.bfloat16), load(OFFICIAL, converted)
    for left, right in ((low.audio_vae, full.audio_vae), (low.vocoder, full.vocoder)):
        expected = right.state_dict()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in left.state_dict().items())


def test_the_token_embedding_is_in_memory_once_also_after_a_move(official: Path) -> None:
    encoder = load(OFFICIAL, official, torch.bfloat16).text_encoder
    for model in (encoder, encoder.to(torch.float32)):
        storages = [tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values()]
        assert len(storages) - len(set(storages)) == 1
        assert model.get_input_embeddings().weight.data_ptr() == model.shared.weight.data_ptr()


# Other layouts of a bundle


@pytest.fixture
def bundle(tmp_path: Path, tiny_bundle: Path) -> Path:
    """A copy of the tiny bundle to be changed."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def part_path(bundle: Path, part: Part) -> Path:
    (path,) = require("tiny", bundle).files[part]
    return path


def load_bundle(bundle: Path, dtype: torch.dtype = torch.float32) -> Models:
    return load_models(require("tiny", bundle), CPU, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("part", [Part.TRANSFORMER, Part.TEXT_ENCODER, Part.VIDEO_VAE])
def test_shards_give_the_same_model_as_one_file(bundle: Path, tiny_bundle: Path, part: Part) -> None:
    path = part_path(bundle, part)
    tensors = load_file(path)
    path.unlink()
    pattern = path.stem + "{suffix}.safetensors"
    save_torch_state_dict(tensors, path.parent, filename_pattern=pattern, max_shard_size="20KB")
    assert len(require("tiny", bundle).files[part]) > 2
    assert_same(load_bundle(bundle), load_bundle(tiny_bundle))


def test_a_diffusers_repository_gives_the_same_models(bundle: Path, tiny_pipeline: Pipeline) -> None:
    shutil.rmtree(bundle / "Wan2.2-TI2V-5B")
    repository = bundle / "Wan2.2-TI2V-5B-Diffusers"
    models = tiny_pipeline.models
    models.video_vae.save_pretrained(repository / "vae")
    models.text_encoder.save_pretrained(repository / "text_encoder")
    models.tokenizer.save_pretrained(repository / "tokenizer")
    inventory = require("tiny", bundle)
    assert inventory.files[Part.TOKENIZER] == (repository / "tokenizer" / "tokenizer.json",)
    pipeline = Pipeline.load(inventory, tiny_pipeline.compute)
    assert_same(pipeline.models, models)
    assert (pipeline(SPEC).frames == tiny_pipeline(SPEC).frames).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fp8_tensors_are_cast(bundle: Path, dtype: torch.dtype) -> None:
    path = part_path(bundle, Part.TRANSFORMER)
    tensors = {
        name: tensor.to(torch.float8_e4m3fn) if tensor.dim() > 1 else tensor for name, tensor in load_file(path).items()
    }
    save_file(tensors, path)
    loaded = load_bundle(bundle, dtype).transformer.state_dict()
    assert {tensor.dtype for tensor in loaded.values()} == {dtype}
    assert all(torch.equal(loaded[name], tensor.to(dtype)) for name, tensor in tensors.items())


def test_a_bundle_of_another_precision_makes_a_clip(bundle: Path, tiny_pipeline: Pipeline) -> None:
    path = part_path(bundle, Part.TRANSFORMER)
    save_file({name: tensor.half() for name, tensor in load_file(path).items()}, path)
    clip = Pipeline.load(require("tiny", bundle), tiny_pipeline.compute)(SPEC)
    difference = clip.frames.astype(int) - tiny_pipeline(SPEC).frames
    assert abs(difference).mean() < 1


def test_loading_does_not_change_the_files_or_share_them(bundle: Path) -> None:
    path = part_path(bundle, Part.TRANSFORMER)
    before = path.read_bytes()
    models = load_bundle(bundle)
    with torch.no_grad():
        for parameter in models.transformer.parameters():
            parameter.add_(1)
    assert path.read_bytes() == before
    assert not torch.equal(next(load_bundle(bundle).transformer.parameters()), next(models.transformer.parameters()))


# Files as other applications have them


def comfyui_names(part: Part) -> dict[str, Tensor]:
    """A part's tensors under the names that files for ComfyUI have."""
    tensors = official_tensors(part)
    if part is Part.TRANSFORMER:
        return {name.removeprefix("video_model."): tensor for name, tensor in tensors.items()}
    if part is Part.TEXT_ENCODER:
        named = {rename(name, TEXT_ENCODER_RULES): tensor for name, tensor in tensors.items()}
        return {**named, "spiece_model": torch.zeros(99, dtype=torch.uint8)}
    return tensors


def loaded(directory: Path, part: Part) -> dict[str, Tensor]:
    """What a part's model is given."""
    convert = {
        Part.TRANSFORMER: transformer_format(Weights.BF16, torch.float32),
        Part.TEXT_ENCODER: text_encoder_format(torch.float32),
        Part.VIDEO_VAE: lambda name, tensor: video_vae_tensors({name: tensor}),
    }[part]
    tensors: dict[str, Tensor] = {}
    for name, tensor in stored_tensors(take_inventory(OFFICIAL, directory), part):
        tensors |= convert(name, tensor)
    return tensors


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


@pytest.mark.parametrize("part", [Part.TRANSFORMER, Part.TEXT_ENCODER, Part.VIDEO_VAE])
def test_a_file_for_comfyui_gives_the_same_model_as_the_official_one(
    official: Path, converted: Path, tmp_path: Path, part: Part
) -> None:
    tensors = comfyui_names(part)
    own = next(path for path in converted.rglob("*.safetensors") if path.stem == official_path(converted, part).stem)
    own.unlink()
    folder = tmp_path / "models"
    folder.mkdir()
    if part is Part.TRANSFORMER:
        audio = {name: tensor for name, tensor in tensors.items() if name.startswith("audio_model.")}
        save_file(audio, folder / "Wan_2_1_Ovi_audio_model_fp32.safetensors")
        video = {name: tensor for name, tensor in tensors.items() if name not in audio}
        save_file(video, folder / "Wan_2_1_Ovi_video_model_fp32.safetensors")
    else:
        save_file(tensors, folder / "file.safetensors")
    assert [found.part for found in adopt(OFFICIAL, converted, [folder]).found] == [part]
    assert_equal(loaded(converted, part), loaded(official, part))


def test_adapters_find_the_original_weights_under_the_models_names(official: Path, tmp_path: Path) -> None:
    path = tmp_path / "for_comfyui.safetensors"
    save_file(comfyui_names(Part.TRANSFORMER), path)
    assert_equal(dict(StoredTensors([path])), dict(StoredTensors([official_path(official, Part.TRANSFORMER)])))


def test_a_text_encoder_in_fp8_with_scales_is_dequantised(official: Path, converted: Path) -> None:
    tensors = comfyui_names(Part.TEXT_ENCODER)
    expected, scaled = loaded(official, Part.TEXT_ENCODER), {}
    for name, tensor in tensors.items():
        scaled[name] = tensor
        if ".SelfAttention." in name and "bias" not in name:
            scale = tensor.abs().max() / 448
            scaled[name] = (tensor / scale).to(torch.float8_e4m3fn)
            layer = name.removesuffix(".weight")
            scaled |= {f"{layer}.scale_weight": scale, f"{layer}.scale_input": torch.tensor(1.0)}
            expected[name] = scaled[name].float() * scale
    scaled["scaled_fp8"] = torch.zeros(0, dtype=torch.float8_e4m3fn)
    path = official_path(converted, Part.TEXT_ENCODER).with_suffix(".safetensors")
    save_file(scaled, path)
    assert_equal(loaded(converted, Part.TEXT_ENCODER), expected)


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


# Memory

CHILD = """
import os
import sys
from pathlib import Path
import torch
from ovi_studio.checkpoints.layout import require
from ovi_studio.checkpoints.load import load_models
from ovi_studio.core.weight_formats import Weights

def load(kind):
    dtype, weights = {"int8": ("bfloat16", "int8")}.get(kind, (kind, "bf16"))
    inventory = require("tiny", Path(sys.argv[1]))
    models = load_models(inventory, torch.device("cpu"), getattr(torch, dtype), weights=Weights(weights))
    # What is mapped counts only when it was touched.
    assert not any(each.any() for name, each in models.transformer.named_parameters() if not name.endswith("scale"))
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(kind, int(peak.split()[1]) * 1024, flush=True)

for kind in sys.argv[2:]:
    # Each in a process of its own, which has what is imported here in its memory, too.
    if (child := os.fork()) == 0:
        load(kind)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, kind
"""


@pytest.fixture
def large_bundle(bundle: Path) -> Iterator[Path]:
    """A bundle whose transformer is one float32 file of about 1.7 GB, all zeros."""
    if shutil.disk_usage(bundle).free < FREE_BYTES:
        pytest.skip(f"less than {FREE_BYTES / 1e9:g} GB of disk are free")
    entries = json.loads((bundle / "bundle.json").read_text())
    for tower in entries["dimensions"]["fusion"].values():
        tower |= {"dim": 1024, "ffn_dim": 4096, "num_heads": 8, "num_layers": 9}
    (bundle / "bundle.json").write_text(json.dumps(entries))
    with torch.device("meta"):
        shapes = {
            name: tensor.shape
            for name, tensor in OviTransformer(**entries["dimensions"]["fusion"]).state_dict().items()
        }
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 4 * shape.numel()
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    encoded = json.dumps(header).encode()
    path = part_path(bundle, Part.TRANSFORMER)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        # The rest are zeros that take no time to write, but as much memory as any others to read.
        file.truncate(8 + len(encoded) + end)
    yield bundle
    path.unlink()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of resident memory is read from /proc")
def test_loading_takes_less_memory_than_the_largest_file_and_one_gigabyte(
    large_bundle: Path, python_environment: dict[str, str]
) -> None:
    size = part_path(large_bundle, Part.TRANSFORMER).stat().st_size
    assert size > 1.5e9
    command = [sys.executable, "-c", CHILD, str(large_bundle), "float32", "bfloat16", "int8"]
    # The allocator gives temporary tensors of the published width back at once, but would keep these smaller ones.
    environment = python_environment | {"MALLOC_MMAP_THRESHOLD_": "1000000"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    peaks = {kind: int(peak) for kind, peak in map(str.split, done.stdout.splitlines())}
    print(f"file {size / 1e9:.2f} GB; peaks: {peaks}")
    assert peaks["float32"] < size + 10**9
    # A half or a quarter of the size, and the process itself.
    assert peaks["bfloat16"] < size
    assert peaks["int8"] < size
