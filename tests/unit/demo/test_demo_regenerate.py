"""Regenerated latents show the same scene, with the transformer's own outlines."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from ovi_studio.core.variants import EMBEDDED_BUNDLE
from ovi_studio.demo.captions import caption
from ovi_studio.demo.embedder import Embedder
from ovi_studio.demo.evaluate import load
from ovi_studio.demo.regenerate import Regenerator
from ovi_studio.demo.scenes import Motion, Scene, Shape, Sound, draw_scene, path, render, synthesise
from ovi_studio.demo.seeing import measure_video
from ovi_studio.models import video_vae
from ovi_studio.models.mel import mel_spectrogram
from ovi_studio.models.video_vae import from_bytes, to_bytes
from ovi_studio.runtime.pipeline import Pipeline


def encoded(pipeline: Pipeline, scene: Scene) -> dict[str, Tensor]:
    models = pipeline.models
    return {
        "video": video_vae.encode(models.video_vae, from_bytes(render(scene)))[0],
        "audio": models.audio_vae.encode(mel_spectrogram(torch.from_numpy(synthesise(scene)).unsqueeze(0)))[0].T,
    }


@pytest.mark.slow
@torch.no_grad()
def test_a_regenerated_scene_keeps_colour_and_position_but_differs() -> None:
    pipeline, random = load(EMBEDDED_BUNDLE), np.random.default_rng(3)
    text = Embedder(pipeline.models.text_encoder, pipeline.models.tokenizer)
    scene = replace(draw_scene(random), shape=Shape.TRIANGLE, motion=Motion.CIRCLE, sound=Sound.SILENCE)
    sample = encoded(pipeline, scene)
    again = Regenerator(pipeline.models.transformer, text)(sample, caption(scene, random), random)
    assert again.shape == sample["video"].shape
    assert 1e-3 < (again - sample["video"]).square().mean() < 0.5, "similar, but not equal"
    decoded = video_vae.decode_whole(pipeline.models.video_vae, again, refined=False)
    seen = measure_video(to_bytes(decoded))
    assert seen.colour == scene.colour
    distances = np.linalg.norm(seen.centres - path(scene), axis=1)
    assert np.nanpercentile(distances, 95) < 0.06, "a sixteenth of the frame"
