import gc
from importlib.util import find_spec

from tiny_model import BUNDLE

from gpu.bundles import clip_spec, require_whole
from gpu.check import Findings, Rig, Skipped, require
from gpu.device import GIB, allocator_limit, measured, require_host_memory
from gpu.random_models import (
    CPU,
    dimensions,
    meta_transformer,
    random_audio_vae,
    random_text_encoder,
    random_transformer,
    random_video_vae,
    random_vocoder,
)
from ovi_studio.checkpoints.load import Models
from ovi_studio.core.clip import Clip
from ovi_studio.core.prompts import AudioTag
from ovi_studio.core.variants import Variant, published_variants
from ovi_studio.demo.bundle_writer import train_tokenizer
from ovi_studio.models.device import usable_memory
from ovi_studio.runtime.compute import Compute
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.runtime.pipeline import Pipeline
from ovi_studio.runtime.placement import choose_plan

_TIER = "24"
_OTHER_MODELS = 14e9
"""Bytes of the full-size text encoder (11.4 GB), video VAE (1.4 GB), audio VAE and vocoder."""
_WORDS = ("a red ball bounces on a green floor", "jitter, bad hands, blur, distortion, robotic, muffled, echo")


def check(rig: Rig, found: Findings) -> None:
    """A full-size clip from prompt to mp4 in the 24 GB tier, within its plan; seconds of each phase."""
    variant = _variant(rig)
    plan = choose_plan(variant, rig.device, _TIER)
    if rig.on_gpu and usable_memory(rig.device) < plan.peak_bytes:
        raise Skipped(f"the plan of this tier takes {plan.peak_bytes / GIB:.1f} GiB of the GPU.")
    fusion = variant.dimensions["fusion"]
    if not rig.small:
        size = sum(each.nbytes for each in meta_transformer(fusion, rig.dtype, plan.weights).parameters())
        require_host_memory(size + _OTHER_MODELS)
    models = Models(
        transformer=random_transformer(rig, fusion, CPU, plan.weights),
        text_encoder=random_text_encoder(rig, CPU),
        tokenizer=train_tokenizer(_WORDS, 300),
        video_vae=random_video_vae(rig, CPU),
        audio_vae=random_audio_vae(rig, CPU),
        vocoder=random_vocoder(rig, CPU),
    )
    compute = Compute(rig.device, rig.dtype, RuntimeOptions(memory=_TIER, compilation=False))
    pipeline = Pipeline(variant, models, compute, plan=plan)
    gc.collect()
    steps = []
    with allocator_limit(rig.device, plan.tier.memory), measured(rig.device) as work:
        clip = pipeline(clip_spec(rig, variant, steps=2 if rig.small else 4), steps.append)
    work.note(found, "clip")
    for phase, seconds in clip.record["seconds"].items():
        found.note(phase.replace("_", " "), seconds, "s")
    require_whole(clip, variant)
    require(len(steps) == clip.spec.steps, f"{len(steps)} steps were reported.")
    if rig.on_gpu:
        found.note("planned", plan.peak_bytes / GIB, "GiB")
        require(work.peak <= plan.peak_bytes, f"It took more than the planned {plan.peak_bytes / GIB:.2f} GiB.")
    _write(rig, found, clip)


def _variant(rig: Rig) -> Variant:
    if not rig.small:
        return published_variants()["720x720_5s"]
    names = ("name", "title", "video_latent_frames", "audio_latent_length", "pixel_area", "slg_layer")
    return Variant(
        **{name: BUNDLE[name] for name in names},
        default_size=tuple(BUNDLE["default_size"]),
        audio_tag=AudioTag(BUNDLE["audio_tag"]),
        files={},
        dimensions=dimensions(rig),
    )


def _write(rig: Rig, found: Findings, clip: Clip) -> None:
    """Write the mp4 and read it again."""
    if find_spec("av") is None:
        found.leave_out("mp4", "PyAV is not installed; frames and samples were checked, no mp4 was written.")
        return
    from clip_reading import read_frames, read_samples

    from ovi_studio.media.clip_files import write_clip

    path = write_clip(clip, rig.folder)
    found.note("mp4", path.stat().st_size / 1e6, "MB")
    require(read_frames(path).shape == clip.frames.shape, "The mp4 and the clip differ in the shape of their frames.")
    require(len(read_samples(path)) >= len(clip.samples), "The mp4 has fewer samples than the clip.")
