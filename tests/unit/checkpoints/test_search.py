"""Files under the names and in the folders of other applications are found, told apart, and linked."""

import dataclasses
import hashlib
import json
import os
import zipfile
from pathlib import Path

import pytest
from model_files import (
    AUDIO_TOWER,
    AUDIO_VAE,
    AUDIO_VAE_OF_44_KHZ,
    COMFY_TEXT_ENCODER,
    DIFFUSERS_VIDEO_VAE,
    T5,
    TEXT_ENCODER,
    TRANSFORMER,
    VARIANT,
    VIDEO_TOWER,
    VIDEO_VAE,
    VIDEO_VAE_OF_WAN_2_1,
    VOCODER,
    Shapes,
    write_model,
)

from ovi_studio.checkpoints import adopt, identify, search
from ovi_studio.checkpoints.layout import take_inventory
from ovi_studio.core.variants import Part, Variant, published_variants


@pytest.fixture
def ckpts(tmp_path: Path) -> Path:
    return tmp_path / "ckpts"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """ComfyUI's folder of models."""
    folder = tmp_path / "ComfyUI" / "models"
    folder.mkdir(parents=True)
    return folder


def found(directory: Path, folder: Path, variant: Variant = VARIANT) -> dict[Part, tuple[Path, ...]]:
    return {one.part: one.files for one in adopt.find(take_inventory(variant, directory), [folder]).found}


def remarks(directory: Path, folder: Path, variant: Variant = VARIANT) -> str:
    return "\n".join(adopt.find(take_inventory(variant, directory), [folder]).remarks)


def test_the_folders_of_comfyui_give_all_parts_but_the_tokenizer(ckpts: Path, models: Path) -> None:
    files = {
        Part.VIDEO_VAE: write_model(models / "vae" / "wan2.2_vae.safetensors", VIDEO_VAE, "F16"),
        Part.TEXT_ENCODER: write_model(
            models / "text_encoders" / "umt5_xxl_fp16.safetensors", COMFY_TEXT_ENCODER, "F16", spiece_model=(99,)
        ),
        Part.AUDIO_VAE: write_model(models / "vae" / "mmaudio_vae_16k_bf16.safetensors", AUDIO_VAE),
        Part.VOCODER: write_model(models / "vae" / "mmaudio_vocoder_bigvgan_best_netG_bf16.safetensors", VOCODER),
        Part.TRANSFORMER: write_model(models / "diffusion_models" / "Ovi_720x720_bf16.safetensors", TRANSFORMER),
    }
    for other in ("loras/style.safetensors", "diffusion_models/wan2.2_ti2v_5B.safetensors"):
        write_model(models / other, {"blocks.0.self_attn.q.weight": (8, 8)})
    findings = adopt.adopt(VARIANT, ckpts, [models])
    assert {one.part: one.files for one in findings.found} == {part: (file,) for part, file in files.items()}
    assert findings.remarks == ()
    inventory = take_inventory(VARIANT, ckpts)
    assert [problem.part for problem in inventory.problems] == [Part.TOKENIZER]
    for part, file in files.items():
        (linked,) = inventory.files[part]
        assert linked.samefile(file)
        assert linked.is_relative_to(ckpts)


@pytest.mark.parametrize(
    ("part", "shapes"),
    [
        (Part.VIDEO_VAE, VIDEO_VAE),
        (Part.VIDEO_VAE, DIFFUSERS_VIDEO_VAE),
        (Part.VIDEO_VAE, {f"vae.{name}": shape for name, shape in VIDEO_VAE.items()}),
        (Part.TEXT_ENCODER, TEXT_ENCODER),
        (Part.TEXT_ENCODER, COMFY_TEXT_ENCODER),
        (Part.TRANSFORMER, {**VIDEO_TOWER, **AUDIO_TOWER}),
        (Part.TRANSFORMER, {f"model.diffusion_model.{name}": shape for name, shape in TRANSFORMER.items()}),
    ],
)
def test_a_part_is_recognised_under_all_conventions_of_names(
    ckpts: Path, models: Path, part: Part, shapes: Shapes
) -> None:
    file = write_model(models / "some 720x720 file.safetensors", shapes)
    assert found(ckpts, models) == {part: (file,)}


def test_a_transformer_in_two_files_is_one_part(ckpts: Path, models: Path) -> None:
    audio = write_model(models / "Wan_2_1_Ovi_audio_model_bf16.safetensors", AUDIO_TOWER)
    video = write_model(models / "Wan_2_1_Ovi_video_model_bf16.safetensors", VIDEO_TOWER)
    write_model(models / "fp8" / "Wan_2_1_Ovi_video_model_fp8.safetensors", VIDEO_TOWER, "F8_E4M3")
    adopt.adopt(VARIANT, ckpts, [models])
    linked = take_inventory(VARIANT, ckpts).files[Part.TRANSFORMER]
    assert [path.resolve() for path in linked] == [video, audio]


def test_half_a_transformer_is_named_and_not_taken(ckpts: Path, models: Path) -> None:
    video = write_model(models / "Wan_2_1_Ovi_video_model_bf16.safetensors", VIDEO_TOWER)
    assert found(ckpts, models) == {}
    assert remarks(ckpts, models).startswith(f"{video} holds the video_model of a transformer alone; put the file of")


def test_no_time_is_spent_on_the_names_in_files_of_other_models(
    ckpts: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> str:
        raise AssertionError("a folder of adapters would take minutes")

    write_model(models / "lora.safetensors", {"diffusion_model.blocks.0.self_attn.q.lora_A.weight": (4, 4)})
    write_model(models / "wan2.2_5B.safetensors", {"blocks.0.self_attn.q.weight": (4, 4)})
    monkeypatch.setattr(identify, "rename", refuse)
    assert found(ckpts, models) == {}


def test_the_name_decides_between_transformers_of_the_same_shape(ckpts: Path, models: Path) -> None:
    names = {
        "960x960_10s": "Wan2_2-5B-Ovi_960x960_10s_bf16.safetensors",
        "960x960_5s": "Wan2_2-5B-Ovi_960x960_bf16.safetensors",
        "720x720_5s": "model.safetensors",
    }
    for name in names.values():
        write_model(models / name, TRANSFORMER)
    for variant, name in names.items():
        tiny = dataclasses.replace(published_variants()[variant], dimensions=VARIANT.dimensions)
        assert found(ckpts, models, tiny) == {Part.TRANSFORMER: (models / name,)}
        assert remarks(ckpts, models, tiny) == ""


@pytest.mark.parametrize(
    ("name", "shapes", "dtype", "remark"),
    [
        (
            "wan_2.1_vae",
            VIDEO_VAE_OF_WAN_2_1,
            "BF16",
            r"is the video VAE of another model: decoder.conv_in.weight has sh",
        ),
        ("t5xxl_fp16", T5, "F16", "is the text encoder of another model, or only a piece of one: it has no "),
        (
            "mmaudio_vae_44k_fp16",
            AUDIO_VAE_OF_44_KHZ,
            "F16",
            "is the audio VAE of another model: decoder.conv_in.weight",
        ),
        (
            "ovi",
            TRANSFORMER,
            "BF16",
            "its name does not say of which variant; rename it so that it contains 960x960_10s",
        ),
        ("ovi_720x720_fp8", TRANSFORMER, "F8_E4M3", "holds F8_E4M3 weights, but variant 720x720_5s needs BF16"),
        ("umt5_int8", COMFY_TEXT_ENCODER, "I8", "holds I8 weights, which cannot be read"),
    ],
)
def test_a_file_of_a_wrong_model_is_named_and_not_taken(
    ckpts: Path, models: Path, name: str, shapes: Shapes, dtype: str, remark: str
) -> None:
    file = write_model(models / f"{name}.safetensors", shapes, dtype)
    assert found(ckpts, models) == {}
    assert remarks(ckpts, models).startswith(str(file))
    assert remark in remarks(ckpts, models)


def test_a_transformer_in_fp8_with_scales_is_named_and_not_taken(ckpts: Path, models: Path) -> None:
    scales = {"video_model.blocks.1.ffn.0.scale_weight": ()}
    write_model(models / "Ovi_720x720_fp8_scaled.safetensors", TRANSFORMER, "F8_E4M3", **scales)
    assert found(ckpts, models) == {}
    assert "holds fp8 weights with scales" in remarks(ckpts, models)


def test_the_shards_of_one_variant_are_not_taken_for_those_of_another(ckpts: Path, models: Path) -> None:
    write_model(models / "Wan_2_1_Ovi_audio_model_bf16.safetensors", AUDIO_TOWER)
    write_model(models / "Wan_2_1_Ovi_video_model_bf16.safetensors", VIDEO_TOWER)
    adopt.adopt(VARIANT, ckpts, [models])
    other = dataclasses.replace(published_variants()["960x960_5s"], dimensions=VARIANT.dimensions)
    assert found(ckpts, models, other) == {}
    assert remarks(ckpts, models, other) == ""


def test_the_most_precise_of_several_files_is_taken(ckpts: Path, models: Path) -> None:
    write_model(models / "a_umt5_fp8.safetensors", COMFY_TEXT_ENCODER, "F8_E4M3")
    best = write_model(models / "b_umt5_bf16.safetensors", TEXT_ENCODER, "BF16")
    write_model(models / "c_umt5_fp16.safetensors", TEXT_ENCODER, "F16")
    assert found(ckpts, models) == {Part.TEXT_ENCODER: (best,)}
    assert remarks(ckpts, models) == ""


def test_a_part_that_is_there_is_not_replaced(ckpts: Path, models: Path) -> None:
    own = write_model(ckpts / "Wan2.2-TI2V-5B" / "Wan2.2_VAE.safetensors", VIDEO_VAE)
    write_model(models / "wan2.2_vae.safetensors", VIDEO_VAE)
    assert found(ckpts, models) == {}
    adopt.adopt(VARIANT, ckpts, [models])
    assert not own.is_symlink()


def test_a_link_whose_file_was_moved_is_mended(ckpts: Path, models: Path) -> None:
    file = write_model(models / "wan2.2_vae.safetensors", VIDEO_VAE)
    adopt.adopt(VARIANT, ckpts, [models])
    moved = file.rename(models / "moved.safetensors")
    assert Part.VIDEO_VAE not in take_inventory(VARIANT, ckpts).files
    adopt.adopt(VARIANT, ckpts, [models])
    assert take_inventory(VARIANT, ckpts).files[Part.VIDEO_VAE][0].samefile(moved)


def write_pth(path: Path, content: bytes = b"weights") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo("data.pkl"), content)
    return path


def publishing(part: Part, *files: Path) -> Variant:
    """The variant whose published files of a part are these."""
    sources = tuple(
        dataclasses.replace(source, size=file.stat().st_size, sha256=hashlib.sha256(file.read_bytes()).hexdigest())
        for source, file in zip(VARIANT.files[part], files, strict=True)
    )
    return dataclasses.replace(VARIANT, files={**VARIANT.files, part: sources})


def test_a_published_torch_file_is_taken_by_its_hash_wherever_it_is(ckpts: Path, models: Path) -> None:
    file = write_pth(models / "vae" / "Wan2.2_VAE.pth")
    variant = publishing(Part.VIDEO_VAE, file)
    assert found(ckpts, models, variant) == {Part.VIDEO_VAE: (file,)}
    write_pth(file, b"others!")
    assert found(ckpts, models, variant) == {}
    assert "Wan2.2_VAE.pth is not the published file: it has another SHA-256." in remarks(ckpts, models, variant)
    write_pth(file, b"many more weights")
    assert "is not the published file: it has " in remarks(ckpts, models, variant)


def test_a_torch_file_of_unknown_hash_is_taken_from_the_official_layout_alone(ckpts: Path, models: Path) -> None:
    write_pth(models / "mmaudio" / "v1-16.pth")
    assert found(ckpts, models) == {}
    assert "is not trusted, since it is not at MMAudio/ext_weights/v1-16.pth" in remarks(ckpts, models)
    official = write_pth(models / "ckpts" / "MMAudio" / "ext_weights" / "v1-16.pth")
    assert found(ckpts, models) == {Part.AUDIO_VAE: (official,)}


def test_the_tokenizer_of_an_official_folder_is_linked_as_a_whole(ckpts: Path, models: Path) -> None:
    folder = models / "Wan2.2-TI2V-5B" / "google" / "umt5-xxl"
    folder.mkdir(parents=True)
    files = [folder / Path(source.path).name for source in VARIANT.files[Part.TOKENIZER]]
    for file in files:
        file.write_text(json.dumps({"file": file.name}))
    variant = publishing(Part.TOKENIZER, *files)
    adopt.adopt(variant, ckpts, [models])
    linked = take_inventory(variant, ckpts).files[Part.TOKENIZER]
    assert [path.resolve() for path in linked] == files
    files[1].write_text("another tokenizer")
    assert found(ckpts / "other", models, variant) == {}


def test_the_hugging_face_cache_is_always_looked_in(
    ckpts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))

    def snapshot(repository: str) -> Path:
        return tmp_path / "hub" / f"models--{repository}" / "snapshots" / "c0ffee"

    blob = write_model(tmp_path / "hub" / "models--chetwinlow1--Ovi" / "blobs" / "abc", TRANSFORMER)
    (snapshot("chetwinlow1--Ovi")).mkdir(parents=True)
    (snapshot("chetwinlow1--Ovi") / "model.safetensors").symlink_to(blob)
    write_pth(snapshot("hkchengrex--MMAudio") / "ext_weights" / "v1-16.pth")
    encoder = snapshot("Wan-AI--Wan2.2-TI2V-5B-Diffusers") / "text_encoder"
    names = list(COMFY_TEXT_ENCODER)
    for number, half in ((1, names[:2]), (2, names[2:])):
        write_model(encoder / f"model-{number}.safetensors", {name: COMFY_TEXT_ENCODER[name] for name in half})
    weights = {name: f"model-{1 if name in names[:2] else 2}.safetensors" for name in names}
    (encoder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    adopt.adopt(VARIANT, ckpts)
    files = take_inventory(VARIANT, ckpts).files
    assert files.keys() == {Part.TRANSFORMER, Part.AUDIO_VAE, Part.TEXT_ENCODER}
    assert files[Part.TRANSFORMER][0].samefile(blob)
    assert [path.resolve().name for path in files[Part.TEXT_ENCODER]] == ["model-1.safetensors", "model-2.safetensors"]


def test_a_file_at_a_wrong_place_in_the_checkpoint_directory_is_used(ckpts: Path) -> None:
    file = write_model(ckpts / "wan2.2_vae.safetensors", VIDEO_VAE)
    adopt.adopt(VARIANT, ckpts)
    assert take_inventory(VARIANT, ckpts).files[Part.VIDEO_VAE][0].samefile(file)


def test_a_damaged_file_is_not_taken(ckpts: Path, models: Path) -> None:
    file = write_model(models / "wan2.2_vae.safetensors", VIDEO_VAE)
    file.write_bytes(file.read_bytes()[:-1])
    (models / "page.safetensors").write_text("<html>log in</html>")
    (models / "list.safetensors.index.json").write_text("[]")
    assert found(ckpts, models) == {}


def test_links_in_a_circle_and_folders_that_cannot_be_read_do_not_stop_the_search(ckpts: Path, models: Path) -> None:
    (models / "loop").symlink_to(models, target_is_directory=True)
    (models / "dangling.safetensors").symlink_to(models / "nothing")
    (models / "self.safetensors").symlink_to(models / "self.safetensors")
    os.mkfifo(models / "pipe.safetensors")
    closed = models / "closed"
    closed.mkdir()
    closed.chmod(0)
    file = write_model(models / "z" / "wan2.2_vae.safetensors", VIDEO_VAE)
    try:
        assert found(ckpts, models) == {Part.VIDEO_VAE: (file,)}
        if not os.access(closed, os.R_OK):
            assert f"{closed} cannot be searched (Permission denied)." in remarks(ckpts, models)
    finally:
        closed.chmod(0o700)


def test_a_huge_folder_is_searched_as_far_as_the_limits_allow(
    ckpts: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    near = write_model(models / "wan2.2_vae.safetensors", VIDEO_VAE)
    deep = models
    for number in range(search.MAX_DEPTH + 2):
        deep = deep / str(number)
    write_model(deep / "umt5.safetensors", TEXT_ENCODER)
    assert found(ckpts, models) == {Part.VIDEO_VAE: (near,)}
    monkeypatch.setattr(search, "MAX_ENTRIES", 30)
    for number in range(40):
        (models / "9" / f"{number}.txt").parent.mkdir(exist_ok=True)
        (models / "9" / f"{number}.txt").write_text("")
    assert found(ckpts, models) == {Part.VIDEO_VAE: (near,)}
    assert f"{models} has more than 30 files; name the folder of the models itself." in remarks(ckpts, models)


@pytest.mark.parametrize("links", ["no symbolic links", "no links"])
def test_where_links_are_not_allowed_the_part_is_there_all_the_same(
    ckpts: Path, models: Path, links: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(1314, "A required privilege is not held by the client")

    file = write_model(models / "wan2.2_vae.safetensors", VIDEO_VAE)
    monkeypatch.setattr(os, "symlink", refuse)
    if links == "no links":
        monkeypatch.setattr(os, "link", refuse)
    adopt.adopt(VARIANT, ckpts, [models])
    (placed,) = take_inventory(VARIANT, ckpts).files[Part.VIDEO_VAE]
    assert placed.read_bytes() == file.read_bytes()
    assert placed.samefile(file) == (links == "no symbolic links")
    assert not list(ckpts.rglob("*.part"))
