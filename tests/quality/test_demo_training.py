"""The recipe of the embedded model, with steps instead of minutes: every stage runs and resumes, up to the bundle."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from ovi_studio.checkpoints.layout import require
from ovi_studio.core.spec import ClipSpec
from ovi_studio.demo import codecs, drawing, lightning, refining, stages, text_encoder
from ovi_studio.demo.__main__ import STAGES
from ovi_studio.demo.codecs import scale_latents
from ovi_studio.demo.decoder_clips import DecoderClips
from ovi_studio.demo.dimensions import DIMENSIONS
from ovi_studio.demo.drawing import LastLevels
from ovi_studio.demo.encoded import EncodedScenes
from ovi_studio.demo.fit import TrainingBudget, fit
from ovi_studio.demo.lightning import LightningBudget
from ovi_studio.demo.recipe import RECIPE
from ovi_studio.demo.scenes import SIDE, draw_scene, render
from ovi_studio.demo.sheets import SheetRow
from ovi_studio.demo.stages import DemoTraining
from ovi_studio.models.audio_vae import AudioVAE
from ovi_studio.models.video_vae import build_video_vae, decode_whole, from_bytes
from ovi_studio.models.vocoder import Vocoder
from ovi_studio.runtime.pipeline import Pipeline
from ovi_studio.training.report import read_log
from ovi_studio.training.settings import TrainSettings

STEPS = TrainingBudget(steps=2)
QUICK = replace(
    RECIPE,
    text=STEPS,
    audio=STEPS,
    video=STEPS,
    vocoder=STEPS,
    decoder=STEPS,
    outlines=STEPS,
    refiner=STEPS,
    scenes=2,
    regenerated=2,
    transformer=TrainSettings(steps=1, batch_size=2),
    lightning=LightningBudget(trajectories=1, train=TrainSettings(steps=1, batch_size=2)),
)


@pytest.fixture
def quick_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sample sheets with a single clip, a teacher of few steps, and a tokenizer and answers of fewer prompts.

    Each would take longer than all the training of a stage with `QUICK`.
    """
    for module in (codecs, drawing, refining, stages):
        monkeypatch.setattr(module, "_SHOWN", 1)
    monkeypatch.setattr(stages, "_STEPS", 2)
    monkeypatch.setattr(stages, "_READ_SCENES", 2)
    monkeypatch.setattr(lightning, "_TEACHER", replace(lightning._TEACHER, steps=4))
    monkeypatch.setattr(text_encoder, "_TEXTS", 1000)
    monkeypatch.setattr(text_encoder, "_BATCH", 24)


def line_losses(model: nn.Module, step: int) -> dict[str, torch.Tensor]:
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
    return {"square": (model(x) - x.sum(dim=1, keepdim=True)).square().mean()}


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def video_vae_of_the_bundle() -> nn.Module:
    return build_video_vae(DIMENSIONS["video_vae"])


def audio_vae_of_the_bundle() -> AudioVAE:
    return AudioVAE(**DIMENSIONS["audio_codec"]["vae"])


def read_card(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def test_fit_learns(tmp_path):
    model = small_network()
    before = line_losses(model, 10**6)["square"].item()
    fit(model, line_losses, TrainingBudget(steps=500, warmup_steps=5), tmp_path)
    assert line_losses(model, 10**6)["square"].item() < 0.1 * before


def test_fit_resumes(tmp_path):
    fit(small_network(), line_losses, TrainingBudget(minutes=0.01), tmp_path)
    done = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"]
    seen = []

    def losses(model: nn.Module, step: int) -> dict[str, torch.Tensor]:
        seen.append(step)
        return line_losses(model, step)

    fit(small_network(), losses, TrainingBudget(minutes=0.02), tmp_path)
    assert seen[0] == done


def test_a_finished_fit_is_not_trained_further(tmp_path):
    fit(small_network(), line_losses, TrainingBudget(minutes=0.01), tmp_path)

    def losses(model: nn.Module, step: int) -> dict[str, torch.Tensor]:
        raise AssertionError("another step")

    model = small_network()
    fit(model, losses, TrainingBudget(minutes=0.01), tmp_path)
    averaged = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["averaged"]
    assert all(torch.equal(tensor, averaged[name]) for name, tensor in model.state_dict().items())


def test_fit_plots_its_losses_and_makes_samples_with_the_averaged_weights(tmp_path, capsys):
    shown = []

    def samples(model: nn.Module) -> list[SheetRow]:
        shown.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return [
            SheetRow("a scene", np.zeros((73, SIDE, SIDE, 3), np.uint8), torch.zeros(80, 190)),
            SheetRow("again", mel=torch.zeros(80, 190)),
        ]

    model = small_network()
    fit(model, line_losses, TrainingBudget(steps=60), tmp_path, samples)
    assert len(shown) == 1
    assert all(torch.equal(tensor, shown[0][name]) for name, tensor in model.state_dict().items())
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert any(not torch.equal(tensor, shown[0][name]) for name, tensor in state["model"].items()), (
        "the model's own weights are restored"
    )
    with Image.open(tmp_path / "samples" / f"step_{state['step']:06}.png") as sheet:
        assert sheet.size == (8 * (SIDE + 4) + 194, 2 * (SIDE + 18))
    with Image.open(tmp_path / "loss.png") as plot:
        assert plot.size == (900, 420)
    entry = read_log(tmp_path)[-1]
    assert entry["step"] % 20 == 0
    assert set(entry) == {"step", "seconds", "square"}
    assert f"step {entry['step']}: square " in capsys.readouterr().out


def test_a_budget_of_steps_ends_after_them_however_long_they_take(tmp_path):
    seen = []

    def losses(model: nn.Module, step: int) -> dict[str, torch.Tensor]:
        seen.append(step)
        return line_losses(model, step)

    fit(small_network(), losses, TrainingBudget(steps=7), tmp_path)
    assert seen == list(range(7))
    for both in ({}, {"minutes": 1.0, "steps": 3}):
        with pytest.raises(ValueError, match="either"):
            TrainingBudget(**both)


def test_samples_come_every_five_minutes_and_take_no_training_time(tmp_path, monkeypatch):
    now = 0.0
    monkeypatch.setattr("ovi_studio.demo.fit.time.monotonic", lambda: now)
    steps, shown = [], []

    def losses(model: nn.Module, step: int) -> dict[str, torch.Tensor]:
        nonlocal now
        now += 50
        steps.append(step)
        return line_losses(model, step)

    def samples(model: nn.Module) -> list[SheetRow]:
        nonlocal now
        now += 200
        shown.append(len(steps))
        return [SheetRow("nothing", mel=torch.zeros(80, 190))]

    fit(small_network(), losses, TrainingBudget(minutes=15), tmp_path, samples)
    assert len(steps) == 15 * 60 / 50
    assert shown == [7, 14, 18], "after more than five minutes, and at the end"


def test_audio_latents_get_unit_size_and_sound_the_same():
    torch.manual_seed(0)
    vae = audio_vae_of_the_bundle().eval()
    mels = torch.randn(2, 80, 32)
    with torch.no_grad():
        before = vae.decode(3 * vae.encode(mels))
        scale_latents(vae, mels)
        latents = vae.encode(mels)
        torch.testing.assert_close(latents.square().mean().sqrt(), torch.tensor(1.0))
        torch.testing.assert_close(vae.decode(latents), before, rtol=0.02, atol=0.02)


def test_the_training_of_every_codec_moves_its_data_to_the_models_device():
    # The meta device stands for a GPU: like one, it refuses tensors of another device.
    vae, audio_vae = (build().to("meta") for build in (video_vae_of_the_bundle, audio_vae_of_the_bundle))
    vocoder = Vocoder.from_config(DIMENSIONS["audio_codec"]["vocoder"]).to("meta")
    scene = draw_scene(np.random.default_rng(0))
    clips = SimpleNamespace(paths=[None], read=lambda _: (latents, scene), draw=lambda _: (latents, scene))
    latents, features = torch.zeros(16, 19, 6, 6), np.zeros((1, 48, 73, 24, 24), np.float16)
    losses = [
        codecs._video_losses(vae, 500, seed=0),
        drawing._decoder_losses(vae, 0, clips=clips, seed=0),
        drawing._last_levels_losses(LastLevels(vae.decoder), 0, features=features, scenes=[scene], seed=0),
        codecs._audio_losses(audio_vae, 0, seed=0),
        codecs._vocoder_losses(vocoder, 1, audio_vae=audio_vae_of_the_bundle(), seed=0),
    ]
    assert all(loss.device.type == "meta" for each in losses for loss in each.values())
    scale_latents(audio_vae, torch.zeros(2, 80, 32))


def video_clips(folder: Path, count: int = 2) -> DecoderClips:
    """Write random latents of random scenes, as if they were regenerated."""
    encoded = EncodedScenes(folder / "latents", 0)
    encoded.folder.mkdir()
    for number in range(count):
        save_file({"video": torch.zeros(1)}, encoded.folder / f"{number:05}.safetensors")
    clips = DecoderClips(folder / "regenerated", encoded)
    clips.write(lambda _, random: torch.from_numpy(random.standard_normal((16, 19, 6, 6), np.float32)), range(count))
    return clips


@pytest.mark.usefixtures("quick_stages")
def test_the_last_levels_of_the_decoder_learn_and_the_others_stay(tmp_path):
    torch.manual_seed(0)
    vae, clips = video_vae_of_the_bundle(), video_clips(tmp_path)
    before = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
    drawing.train_last_levels(vae, clips, TrainingBudget(steps=20, warmup_steps=5), tmp_path / "outlines", 0)
    changed = {name for name, tensor in vae.state_dict().items() if not torch.equal(tensor, before[name])}
    last = ("decoder.up_blocks.2.", "decoder.up_blocks.3.", "decoder.norm_out.", "decoder.conv_out.")
    assert changed
    assert all(name.startswith(last) for name in changed)
    (entry,) = read_log(tmp_path / "outlines")
    assert entry["absolute"] < 0.2, "untrained, it is 0.3 to 0.5"
    assert not (tmp_path / "outlines" / "features.npy").exists()


@pytest.mark.usefixtures("quick_stages")
def test_the_refiner_learns_and_everything_else_stays(tmp_path, monkeypatch):
    found = []

    def watched(model, losses, *rest):
        found.append(losses(model, 10**6)["absolute"].item())
        fit(model, losses, *rest)
        found.append(losses(model, 10**6)["absolute"].item())

    def blurred(vae, latents, *, refined):
        assert not refined, "its own frames are not what it gets"
        frames = next(scenes)[0].transpose(0, 1)
        return torch.nn.functional.avg_pool2d(frames, 5, 1, 2).transpose(0, 1)

    for chance in ("_UNKNOWN", "_MELTED", "_AFRESH"):  # these take longer to learn
        monkeypatch.setattr(refining, chance, 0.0)
    monkeypatch.setattr(refining, "fit", watched)
    monkeypatch.setattr(refining.video_vae, "decode_whole", blurred)
    torch.manual_seed(0)
    vae, clips = video_vae_of_the_bundle(), video_clips(tmp_path)
    scenes = (from_bytes(render(clips.read(path)[1])) for path in clips.paths)
    before = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
    refining.train_refiner(
        vae, clips, TrainingBudget(steps=20, warmup_steps=2, matrix_rate=0.005), tmp_path / "refiner", 0
    )
    changed = {name for name, tensor in vae.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all(name.startswith("refiner.") for name in changed)
    untrained, trained = found
    assert trained < 0.98 * untrained
    assert not (tmp_path / "refiner" / "frames.npy").exists()


def test_the_decoder_trained_on_parts_is_that_of_whole_clips():
    torch.manual_seed(0)
    vae = video_vae_of_the_bundle().eval().requires_grad_(False)
    vae.refiner = None  # it is trained by itself
    latents = torch.randn(16, 5, 6, 6)
    whole = decode_whole(vae, latents)  # the bundle's statistics are 0 and 1 until they are measured
    torch.testing.assert_close(drawing.draw(vae, latents.unsqueeze(0))[0], whole, rtol=0, atol=1e-5)
    below, levels = drawing.features_below(vae, latents.unsqueeze(0), since=3), LastLevels(vae.decoder)
    part = levels(below[:, :, 13 - levels.context :], levels.context)
    torch.testing.assert_close(part[0].clamp(-1, 1), whole[:, 13:], rtol=0, atol=1e-5)


@pytest.mark.usefixtures("quick_stages")
def test_all_stages_end_in_a_bundle_that_makes_a_clip(tmp_path, capsys):
    training = DemoTraining(tmp_path / "training", QUICK)
    for stage in STAGES:
        training.run(stage)
    for stage in ("audio", "video", "vocoder", "transformer", "decoder", "outlines", "refiner"):
        (sheet,) = (training.folder / stage / "samples").glob("step_*.png")
        with Image.open(sheet) as picture:
            low, high = picture.convert("L").crop((0, 16, 190, 110)).getextrema()
            assert low < high, "the sheet is not blank"
    training.run("audio")
    assert "audio is already done" in capsys.readouterr().out

    target = tmp_path / "bundles" / "demo-again"
    training.bundle(target)
    sizes = [path.stat().st_size for path in target.rglob("*") if path.is_file()]
    assert sum(sizes) < 32e6
    assert max(sizes) < 10e6

    pipeline = Pipeline.load(require("demo", target))
    clip = pipeline(ClipSpec(prompt="A red ball bounces on a green floor.", variant="demo", steps=1))
    assert clip.frames.shape == (73, SIDE, SIDE, 3)
    assert clip.samples.shape == (48_640,)

    continuation = DemoTraining(tmp_path / "further", QUICK)
    assert not continuation.starts_from_bundle
    adapter = tmp_path / "adapter.safetensors"
    training.write_adapter(adapter)
    assert read_card(adapter)["modelspec.title"] == "demo-lightning"
    continuation.start_from_bundle(target, adapter)
    assert continuation.starts_from_bundle
    assert continuation.continued().recipe.seed != QUICK.seed
    assert continuation.continued().recipe == continuation.continued().recipe
    for stage in ("audio", "video", "vocoder"):
        continuation.run(stage)
    assert capsys.readouterr().out.count("is already done") == 3
    for stage in ("text", "latents", "transformer", "regenerated", "outlines", "refiner", "trajectories", "lightning"):
        continuation.run(stage)
    continuation.bundle(tmp_path / "bundles" / "further")
    latents = [load_file(folder / "latents" / "00000.safetensors") for folder in (training.folder, continuation.folder)]
    # The bundle holds bfloat16.
    torch.testing.assert_close(latents[0]["video"], latents[1]["video"], rtol=0.05, atol=0.05)
