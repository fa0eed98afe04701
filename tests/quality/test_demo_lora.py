"""The embedded model learns from a folder of clips what a word is to look like, without forgetting other words."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ovi_studio.__main__ import main
from ovi_studio.checkpoints.layout import require
from ovi_studio.core.adapter_stack import parse_stack
from ovi_studio.core.clip import Clip
from ovi_studio.core.spec import ClipSpec
from ovi_studio.demo import scenes
from ovi_studio.demo.captions import caption
from ovi_studio.demo.judges import judge, measure
from ovi_studio.demo.scenes import Colour, Scene, Shape, draw_scene, render, synthesise
from ovi_studio.media.clip_files import write_clip
from ovi_studio.runtime.compute import Compute
from ovi_studio.runtime.pipeline import Pipeline

NEW = Colour.PINK
"""The word that gets a new meaning. Not a new combination of words: the text encoder reads that as a known colour."""
RGB = scenes.RGB[Colour.BLUE]
"""What it is to mean. The model's video VAE draws the colours of its training alone: of others it makes mixtures."""
NEAR = 45
"""Maximum distance (Euclidean, RGB levels) from it; every other colour of the model is more than twice as far away."""
NEW_CLIPS, OLD_CLIPS = 20, 12
VARIANT = "demo"


def draw(seed: int, count: int, new: bool) -> list[tuple[Scene, str]]:
    """Draw scenes and captions, without rings, whose centre is background."""
    random = np.random.default_rng(seed)
    found: list[tuple[Scene, str]] = []
    while len(found) < count:
        scene = draw_scene(random)
        if scene.shape is Shape.RING or (scene.colour is NEW and not new):
            continue
        scene = replace(scene, colour=NEW) if new else scene
        found.append((scene, caption(scene, random, complete=True)))
    return found


def write(folder: Path, drawn: Sequence[tuple[Scene, str]], name: str) -> None:
    for number, (scene, text) in enumerate(drawn):
        clip = Clip(ClipSpec(prompt=text, variant=VARIANT), render(scene), synthesise(scene), None, {})
        path = write_clip(clip, folder, f"{name}_{number:02}")
        path.with_suffix(".txt").write_text(text)


def is_new(frames: np.ndarray) -> bool:
    """Whether most frames show the new colour in an area of at least half a triangle, the smallest shape."""
    distance = np.linalg.norm(frames.astype(float) - RGB, axis=-1)
    parts = (distance < NEAR).mean(axis=(1, 2))
    return bool(np.mean(parts > 0.035) > 0.75)


def test_a_lora_gives_a_word_another_colour_and_keeps_the_old_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(scenes.RGB, NEW, RGB)
    # Old scenes among the new ones prevent the model from giving every object the new colour.
    write(tmp_path / "clips", draw(1, NEW_CLIPS, new=True), "new")
    write(tmp_path / "clips", draw(2, OLD_CLIPS, new=False), "old")
    out = tmp_path / "loras" / "colour.safetensors"
    command = ["train-lora", str(tmp_path / "clips"), "--variant", VARIANT, "--out", str(out), "--trigger", ""]
    command += ["--steps", "120", "--batch-size", "2", "--shift", "3"]
    command += ["--learning-rate", "1.2e-2", "--work", str(tmp_path / "work")]
    assert main(command) == 0

    inventory = require(VARIANT, tmp_path)
    pipeline = Pipeline.load(inventory, Compute(torch.device("cpu"), torch.float32), lambda name: out)
    # It redraws outlines, which nothing here asks about, and takes longer than everything else of a clip.
    pipeline.models.video_vae.refiner = None
    adapters = parse_stack([{"name": "colour"}])

    def make(text: str, stack: tuple[object, ...]) -> Clip:
        return pipeline(ClipSpec(prompt=text, variant=VARIANT, steps=6, video_guidance=3.0, seed=5, adapters=stack))

    new, old = draw(3, 6, new=True), draw(4, 4, new=False)
    assert not any(is_new(make(text, ()).frames) for _, text in new[:3])
    assert sum(is_new(make(text, adapters).frames) for _, text in new) >= 4

    def right(stack: tuple[object, ...]) -> int:
        """Count the colours, backgrounds and sounds of old scenes that the judge finds right."""
        clips = [(scene, make(text, stack)) for scene, text in old]
        verdicts = [judge(measure(clip.frames, clip.samples), scene) for scene, clip in clips]
        return sum(verdict.colour + verdict.background + verdict.sound for verdict in verdicts)

    before = right(())
    assert before >= 11
    assert right(adapters) >= before - 2
