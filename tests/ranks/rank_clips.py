"""Run on several ranks: whole clips of the tiny bundle compared with one process, and parallel decoding.

Arguments: the JSON file to write, the bundle, a picture.
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from adapter_helpers import write_adapter
from diffusers import AutoencoderKLWan
from training_helpers import own_clip

from ovi_studio.adapters.library import AdapterLibrary
from ovi_studio.capacity.layouts import Strategy
from ovi_studio.checkpoints.layout import require
from ovi_studio.core.adapter_stack import AdapterUse, Strength
from ovi_studio.core.clip import Clip
from ovi_studio.core.errors import JobError
from ovi_studio.core.spans import parse_spans
from ovi_studio.core.spec import ClipSpec
from ovi_studio.distributed.decode import decode_pieces
from ovi_studio.distributed.ranks import Ranks, join_ranks
from ovi_studio.models.video_vae import decode_whole
from ovi_studio.runtime.compute import Compute
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.runtime.pipeline import Pipeline

SPEC = ClipSpec(prompt="a red ball bounces <AUDCAP>a deep thump<ENDAUDCAP>", variant="tiny", steps=3, seed=7)
Pipelines = dict[Strategy, Pipeline]


def make(pipeline: Pipeline, spec: ClipSpec) -> tuple[Clip, list[torch.Tensor]]:
    """Make a clip; returns it with the latents of its last step."""
    latents: list[torch.Tensor] = []

    def keep(step: Any) -> None:
        latents[:] = [step.latents.video, step.latents.audio]

    return pipeline(spec, keep), latents


def load(ranks: Ranks, bundle: Path, adapters: Path) -> Pipelines:
    """Load what all parts of this program share: to load a pipeline takes as long as to make a clip or two."""
    found = {}
    for strategy in (Strategy.FULL_SHARD, Strategy.NO_SHARD):
        compute = Compute(torch.device("cpu"), torch.float32, RuntimeOptions(fsdp_strategy=strategy, resident_blocks=1))
        found[strategy] = Pipeline.load(require("tiny", bundle), compute, AdapterLibrary(adapters).path, ranks)
    return found


def clips(ranks: Ranks, bundle: Path, pipelines: Pipelines, picture: Path) -> dict[str, Any]:
    schedule = {"video": Strength.parse("1;0"), "audio": Strength.parse("0;1")}
    source = picture.with_name("source.mp4")
    if ranks.is_leader:
        own_clip(picture.parent, "source", 1, caption=None)
    ranks.broadcast(None)
    specs = {
        "text": SPEC,
        "picture": dataclasses.replace(SPEC, image=picture),
        "one pass": dataclasses.replace(SPEC, video_guidance=1, audio_guidance=1),
        "step cache": dataclasses.replace(SPEC, steps=20, step_cache="fast"),
        "kept": dataclasses.replace(
            SPEC, source=source, keep_picture=parse_spans("0-0.3"), keep_sound=parse_spans("all"), resamples=1
        ),
        "adapter beside": SPEC.with_settings({"adapters": (AdapterUse(name="style", **schedule),)}),
    }
    expected = {}
    if ranks.is_leader:  # alone, since the ranks share few cores here
        compute = Compute(torch.device("cpu"), torch.float32)
        plain = Pipeline.load(require("tiny", bundle), compute, AdapterLibrary(picture.parent).path)
        expected = {name: make(plain, spec) for name, spec in specs.items()}
    wanted = ranks.broadcast({name: latents for name, (_, latents) in expected.items()})
    found = {}
    for strategy, pipeline in pipelines.items():
        for name, spec in specs.items():
            clip, latents = make(pipeline, spec)
            own = max((a - b).abs().max().item() for a, b in zip(latents, wanted[name], strict=True))
            sums = ranks.all_gather([x.double().sum().item() for x in latents])
            answer: dict[str, Any] = {
                "latents": max(ranks.all_gather(own)),
                "same on every rank": all(other == sums[0] for other in sums),
            }
            if ranks.is_leader:
                frames = clip.frames.astype(int) - expected[name][0].frames
                answer["pixels"] = [int(abs(frames).max()), float((frames != 0).mean())]
                answer["samples"] = float(np.abs(clip.samples - expected[name][0].samples).max())
                answer["hashes"] = len(clip.record["checkpoint"])
                answer["memory"] = clip.record["memory"]
                answer["video passes"] = clip.record["video_passes"]
            found[f"{strategy}, {name}"] = answer
    return found


def refusals(ranks: Ranks, pipeline: Pipeline, picture: Path) -> list[str]:
    """An error of one rank is raised on all, and the next clip works."""
    gone = picture.with_name("gone.png")
    said = []
    # Only the last rank has the picture that is not there.
    image = gone if ranks.index == ranks.count - 1 else picture
    for spec in (dataclasses.replace(SPEC, image=image), dataclasses.replace(SPEC, slg_layer=9)):
        try:
            pipeline(spec)
        except JobError as error:
            said.append(str(error))
    pipeline(SPEC)
    assert all(other == said for other in ranks.all_gather(said))
    return said


@torch.no_grad()
def decoding(ranks: Ranks, vae: AutoencoderKLWan) -> dict[str, Any]:
    found = {}
    for height, width, tile in ((11, 13, None), (11, 13, 4), (2, 3, None), (1, 1, None)):
        latents = torch.randn(8, 3, height, width, generator=torch.Generator().manual_seed(1))
        frames = np.zeros((9, 16 * height, 16 * width, 3), int)
        shares = [0] * ranks.count
        for pieces in decode_pieces(vae, latents, tile, ranks):
            for rank, piece in enumerate(pieces):
                frames[piece.frames, piece.rows, piece.columns] = piece.pixels
                shares[rank] += piece.pixels.size
        if ranks.is_leader:
            expected = ((decode_whole(vae, latents) + 1) / 2 * 255).permute(1, 2, 3, 0).numpy()
            assert expected.shape == frames.shape
            found[f"{height}x{width}, {tile}"] = [float(np.abs(frames + 0.5 - expected).max()), shares]
    return found


def main() -> None:
    ranks = join_ranks()
    bundle, picture = map(Path, sys.argv[2:4])
    if ranks.is_leader:
        write_adapter(picture.with_name("style.safetensors"))
    ranks.broadcast("written")
    pipelines = load(ranks, bundle, picture.parent)
    sharded = pipelines[Strategy.FULL_SHARD]
    answer = {
        "clips": clips(ranks, bundle, pipelines, picture),
        "refusals": refusals(ranks, sharded, picture),
        "decoding": decoding(ranks, sharded.models.video_vae),
    }
    if ranks.is_leader:
        Path(sys.argv[1]).write_text(json.dumps(answer))
    ranks.close()


if __name__ == "__main__":
    main()
