"""Trained adapters: a LoRA that the adapter library reads, a student that follows its teacher."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from training_helpers import SETTINGS, build, embeddings, unconditional

from ovi_studio.__main__ import main
from ovi_studio.adapters.library import AdapterLibrary
from ovi_studio.adapters.manager import AdapterManager
from ovi_studio.adapters.names import NameMap
from ovi_studio.core.adapter_stack import parse_stack
from ovi_studio.core.errors import JobError
from ovi_studio.models.transformer import OviTransformer
from ovi_studio.sampling.denoise import Latents, Schedule, denoise
from ovi_studio.sampling.guidance import Guidance
from ovi_studio.training.cache import LatentDataset
from ovi_studio.training.distil import distil, distillation_error
from ovi_studio.training.flow import Unconditional
from ovi_studio.training.lora import LoraCard, LoraSettings, add_lora, load_lora, save_lora, target_layers
from ovi_studio.training.trainer import train
from ovi_studio.training.trajectories import Teacher, TrajectoryDataset, write_trajectories

pytestmark = pytest.mark.slow

LORA = LoraSettings(rank=4, alpha=8)
CARD = LoraCard(title="White things", base_model="tiny", trigger_words=("wh1te", "snow"), licence="CC0-1.0", clips=10)
SHAPES = ((8, 3, 4, 4), (12, 20))
QUIET = {"on_progress": lambda _: None}


def outputs(model: OviTransformer, text: Tensor) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(9)
    video, audio = (torch.randn(1, *shape, generator=generator) for shape in SHAPES)
    with torch.no_grad():
        return model(video, audio, torch.tensor([700.0]), model.prepare_text(text, text))


def export(path: Path, settings: LoraSettings = LORA):  # type: ignore[no-untyped-def]
    return lambda weights, _: save_lora(weights, path, settings, CARD)


def test_a_trained_lora_is_matched_whole_and_applied_as_it_was_trained(dataset: LatentDataset, tmp_path: Path) -> None:
    model, text = build(), embeddings(3).unsqueeze(0)
    plain = outputs(model, text)
    add_lora(model, LORA)
    assert all(torch.equal(*pair) for pair in zip(outputs(model, text), plain, strict=True))
    settings = replace(SETTINGS, learning_rate=1e-2, ema=0.0)
    path = tmp_path / "loras" / "white.safetensors"
    train(model, dataset, unconditional(), settings, tmp_path / "run", export=export(path), **QUIET)
    trained = outputs(model, text)
    assert not torch.allclose(trained[0], plain[0], atol=1e-3)
    assert not torch.allclose(trained[1], plain[1], atol=1e-3)

    model = build()
    assert all(torch.equal(*pair) for pair in zip(outputs(model, text), plain, strict=True))
    library = AdapterLibrary(tmp_path / "loras")
    (entry,) = library.scan()
    names = NameMap({name: tuple(parameter.shape) for name, parameter in model.named_parameters()})
    report = library.match(entry, names)
    layers = 2 * 2 * (8 + 2 + 2)  # towers, blocks, layers of a block
    assert report.summary().startswith(f"{layers} of {layers} layers matched (video {layers // 2} of ")
    assert report.ranks == (4,)
    AdapterManager(model, library.path).prepare(parse_stack([{"name": "white"}]), steps=4)
    for ours, theirs in zip(outputs(model, text), trained, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_training_a_lora_can_start_from_its_file(dataset: LatentDataset, tmp_path: Path) -> None:
    model, text = build(), embeddings(3).unsqueeze(0)
    add_lora(model, LORA)
    settings = replace(SETTINGS, learning_rate=1e-2, ema=0.0)
    path = tmp_path / "white.safetensors"
    train(model, dataset, unconditional(), settings, tmp_path / "run", export=export(path), **QUIET)
    trained = outputs(model, text)
    again = build()
    add_lora(again, LORA, seed=1)
    load_lora(again, path, LORA)
    for ours, theirs in zip(outputs(again, text), trained, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)

    other = build()
    add_lora(other, replace(LORA, rank=2))
    with pytest.raises(JobError, match="does not hold the layers of this training at rank 2"):
        load_lora(other, path, replace(LORA, rank=2))
    path.write_bytes(b"nothing")
    with pytest.raises(JobError, match="cannot be read as an adapter"):
        load_lora(again, path, LORA)


def test_the_file_contains_its_description(tmp_path: Path) -> None:
    model = build()
    add_lora(model, LORA)
    weights = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    card = replace(CARD, settings={"minutes": 3})
    save_lora(weights, tmp_path / "white.safetensors", LORA, card)
    (entry,) = AdapterLibrary(tmp_path).scan()
    description = entry.description
    assert (description.title, description.licence, description.base_model) == ("White things", "CC0-1.0", "tiny")
    assert description.trigger_words == ("wh1te", "snow")
    with safe_open(tmp_path / "white.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert (metadata["ss_network_dim"], metadata["ss_network_alpha"]) == ("4", "8")
    assert metadata["ss_num_train_images"] == "10"
    assert json.loads(metadata["ovi_studio.settings"]) == {"minutes": 3}


def test_only_the_target_layers_are_trained() -> None:
    model = build()
    chosen = target_layers(model, LoraSettings(layers=("fusion",), towers=("audio",)))
    assert chosen == [f"audio_model.blocks.{n}.cross_attn.{kind}_fusion" for n in range(2) for kind in "kv"]
    add_lora(model, LoraSettings(layers=("fusion",), towers=("audio",)))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name.split(".lora_")[0] for name in trained} == set(chosen)
    with pytest.raises(JobError, match="Choose layers among"):
        LoraSettings(layers=())
    with pytest.raises(JobError, match="rank must be between"):
        LoraSettings(rank=0)


def test_bf16_and_checkpointed_blocks_train_a_lora_of_a_bf16_model(dataset: LatentDataset, tmp_path: Path) -> None:
    model = build().to(torch.bfloat16)
    add_lora(model, LORA)
    assert {each.dtype for each in model.parameters() if each.requires_grad} == {torch.float32}
    settings = replace(SETTINGS, steps=4, precision="bf16", gradient_checkpointing=True, muon_learning_rate=None)
    path = tmp_path / "loras" / "white.safetensors"
    train(model, dataset, unconditional(), settings, tmp_path / "run", export=export(path), **QUIET)
    assert AdapterLibrary(path.parent).scan()[0].problem is None
    changed = [each for name, each in model.named_parameters() if ".lora_B." in name]
    assert all(each.abs().max() > 0 for each in changed)


TEACHER = Teacher(timesteps=(1000.0, 800.0, 500.0), steps=12, shift=3.0, skip_block=1)


def write(model: OviTransformer, folder: Path, count: int = 8, part: tuple[int, int] = (1, 1)) -> list[tuple[int, int]]:
    texts, seen = [embeddings(index) for index in range(count)], []
    write_trajectories(
        model, TEACHER, texts, Unconditional(*unconditional()), SHAPES, folder,
        part=part, on_done=lambda *done: seen.append(done),
    )  # fmt: skip
    return seen


def test_the_teacher_samples_as_the_pipeline_does(tmp_path: Path) -> None:
    """A trajectory leads from its noise to the latents that the sampler makes of that noise with guidance."""
    model = build().eval()
    write(model, tmp_path, 1)
    trajectories = TrajectoryDataset(tmp_path, 4).batch([0])
    schedule = TEACHER.schedule()
    assert schedule.timesteps[::4] == pytest.approx(TEACHER.timesteps)
    video_negative, audio_negative = (each.unsqueeze(0) for each in unconditional())
    positive = embeddings(0).unsqueeze(0)
    with torch.no_grad():
        guidance = Guidance(
            model.prepare_text(positive, positive), model.prepare_text(video_negative, audio_negative), 4.0, 3.0, 1
        )
        made = denoise(model, Latents(trajectories.video[0, 0], trajectories.audio[0, 0]), guidance, schedule)
    assert torch.allclose(made.video, trajectories.video[0, -1], atol=1e-5)
    assert torch.allclose(made.audio, trajectories.audio[0, -1], atol=1e-5)


def test_two_processes_share_the_trajectories_and_existing_ones_are_kept(tmp_path: Path) -> None:
    model = build().eval()
    write(model, tmp_path / "both", 3)
    assert write(model, tmp_path / "parts", 3, (2, 2)) == [(1, 1)]
    before = (tmp_path / "parts" / "000001.safetensors").stat().st_mtime_ns
    assert write(model, tmp_path / "parts", 3) == [(1, 3), (2, 3), (3, 3)]
    assert (tmp_path / "parts" / "000001.safetensors").stat().st_mtime_ns == before
    one, other = (TrajectoryDataset(tmp_path / name, 4).batch([0, 1, 2]) for name in ("both", "parts"))
    assert torch.equal(one.video, other.video)
    assert torch.equal(one.text, other.text)
    with pytest.raises(JobError, match="has 4 points instead of 5"):
        TrajectoryDataset(tmp_path / "both", 5)


def test_a_distilled_student_comes_closer_to_its_teacher(tmp_path: Path) -> None:
    """With a third of the passes and without guidance, measured on held-out trajectories."""
    model = build().eval()
    write(model, tmp_path / "trajectories", 24)
    trajectories = TrajectoryDataset(tmp_path / "trajectories", 4)
    held_out = trajectories.batch(range(16, 24))
    trajectories.paths = trajectories.paths[:16]
    before = distillation_error(model, held_out, TEACHER.sigmas)
    add_lora(model, LoraSettings(rank=8))
    settings = replace(SETTINGS, steps=60, learning_rate=1e-2, muon_learning_rate=None, batch_size=8)
    distil(model, trajectories, TEACHER.sigmas, settings, tmp_path / "run", **QUIET)
    after = distillation_error(model, held_out, TEACHER.sigmas)
    assert after[0] < 0.7 * before[0]
    assert after[1] < 0.7 * before[1]


def test_the_students_rollout_is_the_samplers(tmp_path: Path) -> None:
    """The Euler solver at the student's timesteps, with one pass each, gives what distillation trained."""
    model = build().eval()
    write(model, tmp_path, 1)
    trajectories = TrajectoryDataset(tmp_path, 4).batch([0])
    positive = embeddings(0).unsqueeze(0)
    with torch.no_grad():
        guidance = Guidance(model.prepare_text(positive, positive), None, 1.0, 1.0, None)
        schedule = Schedule("euler", 3, 5.0, TEACHER.timesteps)
        made = denoise(model, Latents(trajectories.video[0, 0], trajectories.audio[0, 0]), guidance, schedule)
    distance = (made.video - trajectories.video[0, -1]).square().mean().item()
    assert distillation_error(model, trajectories, TEACHER.sigmas)[0] == pytest.approx(distance, rel=1e-4)


def test_a_teacher_with_unsuitable_steps_is_refused() -> None:
    with pytest.raises(JobError, match="must be a multiple"):
        Teacher(steps=50)
    with pytest.raises(JobError, match="must decrease"):
        Teacher(timesteps=(500.0, 600.0), steps=4)


def test_the_command_distils_a_variant_into_an_adapter(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red ball\n\na blue square. Audio: wind\n")
    out = tmp_path / "loras" / "lightning.safetensors"
    command = [
        "distil", "--variant", "tiny", "--ckpt-dir", str(tiny_bundle), "--prompts", str(prompts),
        "--out", str(out), "--trajectories", "6", "--timesteps", "1000,600", "--teacher-steps", "4", "--steps", "3",
        "--batch-size", "2", "--rank", "4", "--licence", "Apache-2.0", "--work", str(tmp_path / "work"),
    ]  # fmt: skip
    assert main([*command, "--part", "2/2"]) == 0
    assert not out.exists()
    assert len(list((tmp_path / "work" / "trajectories").glob("*.safetensors"))) == 3
    assert main(command) == 0
    assert "timesteps 1000,600 and both guidance scales 1" in capsys.readouterr().out
    (entry,) = AdapterLibrary(tmp_path / "loras").scan()
    assert entry.problem is None
    assert entry.description.licence == "Apache-2.0"
    again = tmp_path / "loras" / "again.safetensors"
    further = [*command[:-2], "--out", str(again), "--from", str(out), "--work", str(tmp_path / "further")]
    assert main([*further, "--learning-rate", "1e-9"]) == 0
    first, second = load_file(out), load_file(again)
    assert all(torch.allclose(second[name], tensor, atol=1e-6) for name, tensor in first.items())
    capsys.readouterr()
    assert main([*command[:-2], "--work", str(tmp_path / "work"), "--shift", "3"]) == 1
    assert "made with other settings (shift)" in capsys.readouterr().err
