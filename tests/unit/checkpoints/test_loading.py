"""Checkpoint files into models: every layout gives the same ones."""

import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import save_torch_state_dict
from official_checkpoints import OFFICIAL, assert_same, load, load_bundle, official_path, official_tensors, part_path
from safetensors.torch import load_file, save_file
from torch import Tensor

from ovi_studio.checkpoints.adopt import adopt
from ovi_studio.checkpoints.keys import TEXT_ENCODER_RULES, rename
from ovi_studio.checkpoints.layout import require, take_inventory
from ovi_studio.checkpoints.load import (
    Models,
    StoredTensors,
    stored_tensors,
    text_encoder_format,
    transformer_format,
    video_vae_tensors,
)
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.variants import Part
from ovi_studio.core.weight_formats import Weights
from ovi_studio.models.video_vae import decode_whole, encode
from ovi_studio.runtime.pipeline import Pipeline

SPEC = ClipSpec(prompt="a red ball bounces on a green floor", variant="tiny", steps=1)


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
