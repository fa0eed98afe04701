"""The trainer: its samples and losses, that it learns, and that a killed run resumes exactly."""

import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_model import CHANNELS
from torch import Tensor
from training_helpers import FRAMES, LENGTH, SETTINGS, SIDE, build, embeddings, sample, unconditional

from ovi_studio.core.errors import JobError
from ovi_studio.sampling.denoise import Latents
from ovi_studio.sampling.solvers import advance, build_scheduler, timesteps
from ovi_studio.training.average import MovingAverage
from ovi_studio.training.cache import LatentDataset, SampleOrder, generator_for, write_sample
from ovi_studio.training.flow import TrainingBatch, Unconditional, draw_sigmas, flow_loss
from ovi_studio.training.muon import orthogonal
from ovi_studio.training.report import PLOT, read_log
from ovi_studio.training.settings import FlowSettings, TrainSettings
from ovi_studio.training.trainer import CHECKPOINT, EMA, train

CPU = torch.device("cpu")


def random_batch(size: int = 4) -> TrainingBatch:
    return TrainingBatch(
        torch.randn(size, CHANNELS, FRAMES, SIDE, SIDE), torch.randn(size, LENGTH, 20), torch.randn(size, 6, 16)
    )


class RecordingModel:
    """Stands in for the model and records its inputs."""

    def __init__(self) -> None:
        self.calls: list[dict[str, object]] = []

    def __call__(self, video, audio, timestep, video_text, audio_text, *, clean_first_frame):  # type: ignore[no-untyped-def]
        self.calls.append(locals())
        return torch.zeros_like(video), torch.zeros_like(audio)


def record_inputs(settings: FlowSettings, batch: TrainingBatch, seed: int = 0) -> tuple[dict[str, Tensor], object]:
    model = RecordingModel()
    generator = torch.Generator().manual_seed(seed)
    losses = flow_loss(model, batch, Unconditional(*unconditional()), settings, generator, CPU)
    return model.calls[0], losses


def test_the_learned_velocity_is_the_one_the_solvers_integrate() -> None:
    """A model with zero loss predicts noise - clean; the solvers, following that velocity, reach the clean latents."""
    clean = Latents(torch.randn(CHANNELS, FRAMES, SIDE, SIDE), torch.randn(LENGTH, 20))
    noise = Latents(torch.randn_like(clean.video), torch.randn_like(clean.audio))
    batch = TrainingBatch(clean.video.unsqueeze(0), clean.audio.unsqueeze(0), embeddings(0).unsqueeze(0))
    generator = torch.Generator().manual_seed(0)
    settings = FlowSettings(first_frame=0)
    sigma = draw_sigmas(1, settings, generator).item()
    torch.rand((), generator=generator), torch.rand(1, generator=generator)
    drawn = [torch.randn(latents.shape, generator=generator) for latents in (batch.video, batch.audio)]

    def predict(video, audio, timestep, *texts, clean_first_frame):  # type: ignore[no-untyped-def]
        assert timestep.item() == pytest.approx(1000 * sigma)
        assert torch.allclose(video, (1 - sigma) * batch.video + sigma * drawn[0], atol=1e-6)
        assert torch.allclose(audio, (1 - sigma) * batch.audio + sigma * drawn[1], atol=1e-6)
        return drawn[0] - batch.video, drawn[1] - batch.audio

    generator.manual_seed(0)
    losses = flow_loss(predict, batch, Unconditional(*unconditional()), settings, generator, CPU)
    assert losses.total == 0

    for start, end in ((noise.video, clean.video), (noise.audio, clean.audio)):
        solver, latents = build_scheduler("euler", 5, 5.0), start.unsqueeze(0)
        for _ in timesteps(solver):
            latents = advance(solver, (start - end).unsqueeze(0), latents)
        assert torch.allclose(latents[0], end, atol=1e-5)


def test_a_given_first_frame_is_clean_and_adds_no_loss() -> None:
    batch = random_batch()
    inputs, losses = record_inputs(FlowSettings(first_frame=1.0), batch)
    assert inputs["clean_first_frame"] is True
    assert torch.equal(inputs["video"][:, :, :1], batch.video[:, :, :1])
    changed = replace(batch, video=torch.cat([batch.video[:, :, :1] + 5, batch.video[:, :, 1:]], dim=2))
    assert torch.equal(record_inputs(FlowSettings(first_frame=1.0), changed)[1].video, losses.video)
    assert record_inputs(FlowSettings(first_frame=0.0), batch)[0]["clean_first_frame"] is False


def test_a_dropped_caption_becomes_the_negative_prompt_of_each_tower() -> None:
    batch = random_batch()
    video_negative, audio_negative = unconditional()
    inputs, _ = record_inputs(FlowSettings(caption_dropout=1.0), batch)
    assert torch.equal(inputs["video_text"][0, :3], video_negative)
    assert torch.equal(inputs["audio_text"][0, :2], audio_negative)
    assert not inputs["video_text"][:, 3:].any()
    assert not inputs["audio_text"][:, 2:].any()
    kept, _ = record_inputs(FlowSettings(caption_dropout=0.0), batch)
    assert torch.equal(kept["video_text"], batch.text)


def test_sigmas_are_shifted_towards_noise() -> None:
    for kind in ("uniform", "logit-normal"):
        settings = FlowSettings(shift=5.0, sigmas=kind)
        sigmas = draw_sigmas(20_000, settings, torch.Generator().manual_seed(0))
        assert sigmas.min() > 0
        assert sigmas.max() < 1
        # The middle of both distributions is 1/2, which the shift moves to 5/6.
        assert sigmas.median() == pytest.approx(5 / 6, abs=0.01)


def test_the_average_forgets_the_start_of_a_short_run() -> None:
    weight = torch.zeros(1)
    average = MovingAverage({"weight": weight}, 0.999)
    for count in range(1, 201):
        weight.fill_(1.0 if count > 100 else 0.0)
        average.update(count)
        assert count > 1 or average.tensors["weight"] == weight
    assert average.tensors["weight"] > 0.99


def test_muon_gives_every_direction_the_same_size() -> None:
    for shape in ((3, 20, 20), (2, 16, 48), (2, 48, 16)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
        assert values.max() < 1.3
        assert values.min() > 0.5 or shape == (3, 20, 20)  # a random square matrix can be nearly singular


@pytest.mark.slow
def test_both_losses_decrease_and_log_plot_and_weights_are_written(dataset: LatentDataset, tmp_path: Path) -> None:
    model = build()
    train(model, dataset, unconditional(), replace(SETTINGS, steps=60), tmp_path / "run", on_progress=lambda _: None)
    entries = read_log(tmp_path / "run")
    assert entries[-1]["step"] == 60
    for name in ("video", "audio"):
        late = sum(entry[name] for entry in entries[-10:]) / 10
        assert late < 0.6 * entries[0][name]
    with Image.open(tmp_path / "run" / PLOT) as plot:
        assert len(plot.convert("RGB").getcolors(10_000)) > 4
    weights = load_file(tmp_path / "run" / EMA)
    assert weights.keys() == model.state_dict().keys()
    model.load_state_dict(weights)


def run(dataset: LatentDataset, folder: Path, steps: int, *, seed: int = 0, on_progress=lambda _: None) -> None:  # type: ignore[no-untyped-def]
    settings = replace(SETTINGS, steps=steps, schedule="constant", decay=0, checkpoint_minutes=0)
    train(build(seed), dataset, unconditional(), settings, folder, on_progress=on_progress)


def assert_same_result(first: Path, second: Path) -> None:
    weights, others = (load_file(folder / EMA) for folder in (first, second))
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    steps = [[entry["step"] for entry in read_log(folder)] for folder in (first, second)]
    assert steps[0] == steps[1]


@pytest.mark.slow
def test_a_stopped_run_resumes_exactly(dataset: LatentDataset, tmp_path: Path) -> None:
    """SIGTERM ends a run after the current step; the resuming model has other weights before they are restored."""
    run(dataset, tmp_path / "whole", 12)

    def stop(progress) -> None:  # type: ignore[no-untyped-def]
        if progress.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    run(dataset, tmp_path / "parts", 12, on_progress=stop)
    # The stop request is checked after each step, so one more may be taken.
    assert torch.load(tmp_path / "parts" / CHECKPOINT, weights_only=True)["step"] in (5, 6)
    run(dataset, tmp_path / "parts", 12, seed=1)
    assert_same_result(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.slow
def test_a_killed_process_resumes_from_its_last_checkpoint(dataset: LatentDataset, tmp_path: Path) -> None:
    run(dataset, tmp_path / "whole", 12)

    def die(progress) -> None:  # type: ignore[no-untyped-def]
        if progress.step == 7:
            os.kill(os.getpid(), signal.SIGKILL)

    # A fork has imported torch already.
    process = multiprocessing.get_context("fork").Process(
        target=run, args=(dataset, tmp_path / "parts", 12), kwargs={"on_progress": die}
    )
    process.start()
    try:
        process.join(500)
        assert process.exitcode == -signal.SIGKILL
    finally:
        process.kill()
    # The log has a step that the checkpoint has not: it is repeated, and logged once.
    assert torch.load(tmp_path / "parts" / CHECKPOINT, weights_only=True)["step"] == 6
    assert read_log(tmp_path / "parts")[-1]["step"] == 7
    run(dataset, tmp_path / "parts", 12)
    assert_same_result(tmp_path / "whole", tmp_path / "parts")


def test_a_run_of_other_parameters_is_refused(dataset: LatentDataset, tmp_path: Path) -> None:
    run(dataset, tmp_path / "run", 1)
    model = build()
    model.audio_model.requires_grad_(False)
    with pytest.raises(JobError, match="trains other parameters"):
        train(model, dataset, unconditional(), SETTINGS, tmp_path / "run")


@pytest.mark.slow
def test_checkpointed_blocks_give_the_same_weights_and_a_time_budget_ends_a_run(
    dataset: LatentDataset, tmp_path: Path
) -> None:
    run(dataset, tmp_path / "plain", 3)
    settings = replace(SETTINGS, steps=3, schedule="constant", decay=0, gradient_checkpointing=True)
    model = build()
    train(model, dataset, unconditional(), settings, tmp_path / "twice", on_progress=lambda _: None)
    plain, twice = (load_file(tmp_path / name / EMA) for name in ("plain", "twice"))
    assert all(torch.allclose(plain[name], twice[name], atol=1e-6) for name in plain)
    assert "forward" not in vars(model.fusion_blocks[0])

    settings = replace(SETTINGS, steps=None, minutes=0.02, batch_size=2, accumulation=2)
    start = time.monotonic()
    train(build(), dataset, unconditional(), settings, tmp_path / "timed", on_progress=lambda _: None)
    assert time.monotonic() - start < 30
    last = read_log(tmp_path / "timed")[-1]
    assert last["elapsed"] >= 1.2
    assert last["rate"] == pytest.approx(0.01, abs=0.01)


def test_settings_say_how_long_and_stay_within_limits() -> None:
    with pytest.raises(JobError, match="steps or a number of minutes"):
        TrainSettings()
    with pytest.raises(JobError, match="batch size must be between"):
        TrainSettings(steps=1, batch_size=0)
    with pytest.raises(JobError, match="caption dropout must be between"):
        FlowSettings(caption_dropout=float("nan"))


def test_every_sample_comes_once_per_epoch_in_an_order_given_by_the_seed() -> None:
    order = SampleOrder(7, seed=3)
    epochs = [order[7 * epoch : 7 * epoch + 7] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert SampleOrder(7, seed=3)[5:10] == epochs[0][5:] + epochs[1][:3]


def test_samples_come_back_with_one_of_their_captions(tmp_path: Path) -> None:
    stored = sample(0, captions=3)
    for index in range(2):
        write_sample(tmp_path, f"clip_{index}", stored)
    dataset = LatentDataset(tmp_path)
    seen = set()
    for seed in range(20):
        batch = dataset.batch([0, 1], generator_for(seed))
        assert torch.equal(batch.video[1], stored.video)
        assert torch.equal(batch.audio[0], stored.audio)
        for text in batch.text:
            matches = [i for i, known in enumerate(stored.texts) if torch.equal(text[: len(known)], known)]
            assert len(matches) == 1
            assert not text[len(stored.texts[matches[0]]) :].any()
            seen.update(matches)
    assert seen == {0, 1, 2}


def test_damaged_and_mismatched_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="no encoded clip"):
        LatentDataset(tmp_path)
    write_sample(tmp_path, "a", sample(0))
    whole = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "b.safetensors").write_bytes(whole[:200])
    with pytest.raises(JobError, match=r"b\.safetensors is damaged"):
        LatentDataset(tmp_path)
    other = sample(1)
    write_sample(tmp_path, "b", replace(other, audio=other.audio[:-1]))
    with pytest.raises(JobError, match=r"b\.safetensors has latents of"):
        LatentDataset(tmp_path)


def test_muon_is_refused_for_sharded_matrices() -> None:
    with pytest.raises(JobError, match="whole matrices"):
        replace(SETTINGS, sharded=True)
