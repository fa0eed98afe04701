"""From a folder of clips to encoded samples and to an adapter: the commands as users run them."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from clip_reading import read_frames, read_samples
from safetensors.torch import load_file
from training_helpers import CLIP_FRAMES as FRAMES
from training_helpers import CLIP_SAMPLES as SAMPLES
from training_helpers import CLIP_SIDE as SIDE
from training_helpers import COMMAND, own_clip

from ovi_studio.__main__ import main
from ovi_studio.adapters.library import AdapterLibrary
from ovi_studio.core.errors import JobError
from ovi_studio.media.clip_files import read_record
from ovi_studio.models import video_vae
from ovi_studio.training.cache import LatentDataset, generator_for
from ovi_studio.training.clips import ClipShape, encode_folder, read_clip
from ovi_studio.training.prepare import TrainingContext

pytestmark = pytest.mark.slow

SHAPE = ClipShape(SIDE, SIDE, FRAMES, SAMPLES)


@pytest.fixture(scope="module")
def context(tiny_bundle: Path) -> TrainingContext:
    return TrainingContext.load("tiny", tiny_bundle)


def foreign_clip(path: Path, rate: Fraction, seconds: float, flash: float, sound: bool = True) -> Path:
    """Write a wide clip, black and silent except for a white flash with a beep, in stereo at 44.1 kHz."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=rate, options={"crf": "10"})
        video.width, video.height, video.pix_fmt = 160, 96, "yuv420p"
        audio = container.add_stream("aac", rate=44_100, layout="stereo") if sound else None
        for index in range(round(seconds * rate)):
            level = 255 if flash <= index / rate < flash + 0.1 else 0
            frame = av.VideoFrame.from_ndarray(np.full((96, 160, 3), level, np.uint8), format="rgb24")
            frame.pts = index
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            time = np.arange(round(44_100 * seconds)) / 44_100
            beep = np.where((time >= flash) & (time < flash + 0.1), np.sin(time * 6000), 0).astype(np.float32)
            block = av.AudioFrame.from_ndarray(np.stack([beep, beep]), format="fltp", layout="stereo")
            block.rate, block.pts = 44_100, 0
            container.mux(audio.encode(block))
            container.mux(audio.encode(None))
    return path


def test_our_own_clips_are_read_unchanged(tmp_path: Path) -> None:
    path = own_clip(tmp_path, "a", 1)
    frames, samples = read_clip(path, SHAPE)
    assert np.abs(frames.astype(int) - read_frames(path)).mean() < 1
    assert np.allclose(samples, np.pad(read_samples(path), (0, SAMPLES))[:SAMPLES], atol=1e-3)


@pytest.mark.parametrize("rate", [Fraction(24), Fraction(30), Fraction(60), Fraction(12), Fraction(30_000, 1001)])
def test_picture_and_sound_of_any_rate_stay_in_sync(tmp_path: Path, rate: Fraction) -> None:
    path = foreign_clip(tmp_path / "wide.mp4", rate, 1.5, flash=0.5)
    frames, samples = read_clip(path, SHAPE)
    assert frames.shape == (FRAMES, SIDE, SIDE, 3)
    bright = [index for index, frame in enumerate(frames) if frame.mean() > 128]
    assert bright[0] == pytest.approx(0.5 * 24, abs=1)
    assert len(bright) == pytest.approx(0.1 * 24, abs=2)
    loud = np.flatnonzero(np.abs(samples) > 0.3)
    assert loud[0] / 16_000 == pytest.approx(0.5, abs=0.01)
    assert loud[-1] / 16_000 == pytest.approx(0.6, abs=0.01)


def test_a_wide_picture_is_cropped_at_the_centre_and_not_distorted(tmp_path: Path) -> None:
    path = tmp_path / "wide.mp4"
    picture = np.zeros((96, 160, 3), np.uint8)
    picture[:, :, 0] = 200
    picture[:, 32:128] = (0, 0, 200)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=24, options={"crf": "5"})
        video.width, video.height, video.pix_fmt = 160, 96, "yuv444p"
        audio = container.add_stream("aac", rate=16_000, layout="mono")
        for index in range(20):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = index
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        block = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.float32), format="fltp", layout="mono")
        block.rate, block.pts = 16_000, 0
        container.mux(audio.encode(block))
        container.mux(audio.encode(None))
    frames, _ = read_clip(path, SHAPE)
    # The middle square of 96 columns is all that is left.
    assert frames[..., 2].min() > 100
    assert frames[:, :, 2:-2, 0].max() < 100


def test_samples_are_the_latents_and_embeddings_of_the_clip(tmp_path: Path, context: TrainingContext) -> None:
    path = own_clip(tmp_path / "clips", "a", 1, "a red ball\na ball that is red")
    encoded = encode_folder(tmp_path / "clips", tmp_path / "cache", context, (SIDE, SIDE))
    dataset = LatentDataset(tmp_path / "cache", encoded.names)
    assert dataset.shapes == context.latent_shapes
    batch = dataset.batch([0], generator_for(0))
    pixels = torch.from_numpy(read_clip(path, SHAPE)[0]).permute(3, 0, 1, 2).unsqueeze(0) / 127.5 - 1
    with torch.no_grad():
        # Half precision on disk.
        assert torch.allclose(batch.video, video_vae.encode(context.models.video_vae, pixels), atol=5e-3)
    captions = context.embed(["a red ball", "a ball that is red"])
    assert any(torch.allclose(batch.text[0, : len(text)], text, atol=1e-4) for text in captions)


def test_only_changed_clips_are_encoded_again(tmp_path: Path, context: TrainingContext) -> None:
    clips, cache = tmp_path / "clips", tmp_path / "cache"
    for index in range(3):
        own_clip(clips, f"clip_{index}", index + 1)
    first = encode_folder(clips, cache, context, (SIDE, SIDE))
    assert (len(first.names), first.reused) == (3, 0)
    assert encode_folder(clips, cache, context, (SIDE, SIDE)).reused == 3
    (clips / "clip_1.txt").write_text("something else")
    changed = encode_folder(clips, cache, context, (SIDE, SIDE))
    assert changed.reused == 2
    assert len(set(first.names) & set(changed.names)) == 2
    assert encode_folder(clips, cache, context, (SIDE, SIDE), trigger="wh1te").reused == 0


def test_clips_that_cannot_be_used_are_skipped_with_a_reason(tmp_path: Path, context: TrainingContext) -> None:
    good = own_clip(tmp_path, "good", 1)
    (tmp_path / "broken.mp4").write_bytes(good.read_bytes()[:3000])
    (tmp_path / "text.mp4").write_text("no clip at all")
    foreign_clip(tmp_path / "short.mp4", Fraction(24), 0.5, flash=0.2)
    foreign_clip(tmp_path / "silent.mp4", Fraction(24), 1, flash=0.2, sound=False)
    for name in ("broken", "text", "short", "silent"):
        (tmp_path / f"{name}.txt").write_text("a ball")
    own_clip(tmp_path, "wordless", 2, caption=None)
    own_clip(tmp_path, "empty", 3, caption="\n")
    encoded = encode_folder(tmp_path, tmp_path / "cache", context, (SIDE, SIDE))
    assert len(encoded.names) == 1
    reasons = {skipped.path.stem: skipped.reason for skipped in encoded.skipped}
    assert "broken.mp4 cannot be decoded" in reasons["broken"]
    assert "text.mp4 cannot be decoded" in reasons["text"]
    assert "short.mp4 lasts 0.50 s, but 0.71 s are needed" in reasons["short"]
    assert "silent.mp4 has no sound" in reasons["silent"]
    assert "wordless.mp4 has no caption; write one to wordless.txt" in reasons["wordless"]
    assert "contains no prompt" in reasons["empty"]
    with pytest.raises(JobError, match="no clip in"):
        encode_folder(tmp_path / "cache", tmp_path / "cache", context, (SIDE, SIDE))


def test_the_command_trains_a_lora_makes_sample_clips_and_resumes(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in range(3):
        own_clip(tmp_path / "clips", f"clip_{index}", index + 1)
    out, work = tmp_path / "loras" / "white.safetensors", tmp_path / "work"
    command = [*COMMAND, str(tmp_path / "clips"), "--ckpt-dir", str(tiny_bundle), "--out", str(out)]
    command += ["--work", str(work), "--trigger", "wh1te", "--licence", "CC0-1.0", "--sample-prompt", "a wh1te ball"]
    assert main([*command, "--encode-only"]) == 0
    assert not out.exists()
    assert main([*command, "--steps", "3", "--sample-steps", "1"]) == 0
    assert "3 clips, 3 of them already encoded, 0 skipped." in capsys.readouterr().out
    (clip,) = (work / "samples").glob("*.mp4")
    assert read_record(clip)["spec"]["prompt"] == "a wh1te ball"
    (entry,) = AdapterLibrary(tmp_path / "loras").scan()
    assert entry.description.trigger_words == ("wh1te",)
    before = out.read_bytes()

    assert main([*command, "--steps", "5"]) == 1
    assert "continue it with --resume" in capsys.readouterr().err
    assert main([*command, "--steps", "5", "--resume", "--sample-steps", "1"]) == 0
    assert "step 5:" in capsys.readouterr().out
    assert out.read_bytes() != before


def test_the_command_starts_from_an_adapter(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own_clip(tmp_path / "clips", "a", 1)
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    command = [*COMMAND, str(tmp_path / "clips"), "--ckpt-dir", str(tiny_bundle), "--work"]
    assert main([*command, str(tmp_path / "one"), "--out", str(first), "--steps", "2"]) == 0
    further = [*command, str(tmp_path / "two"), "--out", str(second), "--steps", "1", "--from", str(first)]
    assert main([*further, "--learning-rate", "1e-9"]) == 0
    before, after = load_file(first), load_file(second)
    assert all(torch.allclose(after[name], tensor, atol=1e-6) for name, tensor in before.items())
    capsys.readouterr()
    assert main([*command, str(tmp_path / "three"), "--out", str(second), "--rank", "2", "--from", str(first)]) == 1
    assert "does not hold the layers of this training at rank 2" in capsys.readouterr().err


def test_the_command_trains_all_weights(tiny_bundle: Path, tmp_path: Path) -> None:
    own_clip(tmp_path / "clips", "a", 1)
    out = tmp_path / "whole.safetensors"
    command = ["train", str(tmp_path / "clips"), "--variant", "tiny", "--ckpt-dir", str(tiny_bundle)]
    command += ["--out", str(out), "--work", str(tmp_path / "work"), "--steps", "2", "--muon", "0.01"]
    assert main(command) == 0
    context = TrainingContext.load("tiny", tiny_bundle)
    before, after = context.models.transformer.state_dict(), load_file(out)
    assert before.keys() == after.keys()
    assert sum(not torch.equal(before[name], after[name]) for name in before) > 0.9 * len(before)
