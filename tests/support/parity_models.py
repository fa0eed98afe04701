"""The reference cases of each model, of the solvers, and of the whole pipeline."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from parity_case import Case, Place, filled, load_case, read_json, read_metadata, relative_error
from safetensors.torch import load_file
from torch import Tensor, nn

from ovi_studio.capacity.tiers import ALL_RESIDENT
from ovi_studio.checkpoints.load import Models, text_encoder_tensors, video_vae_tensors, vocoder_tensors
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.variants import Variant, published_variants
from ovi_studio.models import video_vae
from ovi_studio.models.audio_vae import AudioVAE
from ovi_studio.models.text_encoder import build_text_encoder
from ovi_studio.models.transformer import OviTransformer
from ovi_studio.models.vocoder import Vocoder
from ovi_studio.runtime.compute import Compute
from ovi_studio.runtime.conditioning import TextEmbeddings
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.runtime.pipeline import Pipeline
from ovi_studio.sampling.denoise import Latents
from ovi_studio.sampling.solvers import advance, build_scheduler, timesteps

TRANSFORMER_TOLERANCE = 2e-5
SOLVER_TOLERANCE = 1e-6
CODEC_TOLERANCE = 5e-6
AUDIO_TOLERANCE = 2e-5
PIPELINE_TOLERANCE = 1e-4


def find_model_cases(directory: Path, place: Place) -> Iterator[Case]:
    """The cases of the models, in the order from parts to the whole."""
    for find in (_fusion, _solvers, _video_vae, _text_encoder, _audio_codec, _pipeline):
        yield from find(directory, place)


def forget_models() -> None:
    """Give back the memory of the models that several cases share."""
    for load in (load_transformer, _load_video_vae, _load_audio_codec):
        load.cache_clear()


def _fusion(directory: Path, place: Place) -> Iterator[Case]:
    for path in sorted(directory.glob("fusion.*.safetensors")):
        if path.name != "fusion.weights.safetensors":
            yield Case(path.stem, TRANSFORMER_TOLERANCE, lambda path=path: _fusion_error(path, place))


def fresh_transformer(directory: Path, place: Place) -> OviTransformer:
    """One that may be changed; the other cases share theirs."""
    model = OviTransformer(**read_json(directory / "fusion.config.json"))
    return filled(model, load_file(directory / "fusion.weights.safetensors"), place)


@cache
def load_transformer(directory: Path, place: Place) -> OviTransformer:
    """The one that several cases share."""
    return fresh_transformer(directory, place)


def _fusion_error(path: Path, place: Place) -> float:
    case, metadata = load_case(path, place), read_metadata(path)
    model = load_transformer(path.parent, place)
    contexts = (case[f"{tower}_context"].unsqueeze(0).to(place.dtype) for tower in ("video", "audio"))
    text = model.prepare_text(*contexts)
    skip = int(metadata["slg"])
    video, audio = model(
        case["video"].unsqueeze(0).to(place.dtype),
        case["audio"].unsqueeze(0).to(place.dtype),
        case["timestep"],
        text,
        clean_first_frame=metadata["clean"] == "True",
        skip_block=skip if skip > 0 else None,
    )
    return max(relative_error(video[0], case["video_out"]), relative_error(audio[0], case["audio_out"]))


def _solvers(directory: Path, place: Place) -> Iterator[Case]:
    path = directory / "solvers.safetensors"
    if not path.is_file():
        return
    for name in sorted({key.rpartition(".")[0] for key in load_file(path)}):
        yield Case(f"solvers/{name}", SOLVER_TOLERANCE, lambda name=name: _solver_error(path, name, place))


def _solver_error(path: Path, name: str, place: Place) -> float:
    tensors = load_case(path, place)
    case = {key.rpartition(".")[2]: tensor for key, tensor in tensors.items() if key.startswith(name + ".")}
    solver, steps, shift = name.split("_")
    scheduler = build_scheduler(solver, int(steps), float(shift))
    x = case["init"]
    for timestep in timesteps(scheduler):
        velocity = torch.tanh(case["k"] * x) + 0.3 * torch.sin(torch.tensor(3 * timestep / 1000))
        x = advance(scheduler, velocity, x)
    grid = max(
        relative_error(scheduler.sigmas, case["sigmas"]),
        relative_error(scheduler.timesteps.float(), case["timesteps"].float()),
    )
    return max(grid, relative_error(x, case["final"]))


def _video_vae(directory: Path, place: Place) -> Iterator[Case]:
    path = directory / "video_vae.case.safetensors"
    if not path.is_file():
        return

    def compare(key: str, compute: Callable[[Any, dict[str, Tensor]], Tensor]) -> Case:
        def error() -> float:
            case = load_case(path, place)
            return relative_error(compute(_load_video_vae(directory, place), case), case[key])

        return Case(f"video_vae/{key}", CODEC_TOLERANCE, error)

    yield compare("encoded", lambda vae, case: video_vae.encode(vae, case["video"]))
    yield compare("first_frame_encoded", lambda vae, case: video_vae.encode(vae, case["video"][:, :, :1]))
    yield compare("decoded", lambda vae, case: video_vae.decode_whole(vae, case["latent"][0]).unsqueeze(0))


@cache
def _load_video_vae(directory: Path, place: Place) -> Any:
    model = video_vae.build_video_vae(read_json(directory / "video_vae.config.json"))
    return filled(model, video_vae_tensors(load_file(directory / "video_vae.weights.safetensors")), place)


def _text_encoder(directory: Path, place: Place) -> Iterator[Case]:
    if (directory / "text_encoder.case.safetensors").is_file():
        yield Case("text_encoder", CODEC_TOLERANCE, lambda: _text_encoder_error(directory, place))


def _text_encoder_error(directory: Path, place: Place) -> float:
    case = load_case(directory / "text_encoder.case.safetensors", place)
    model = build_text_encoder(read_json(directory / "text_encoder.config.json"))
    filled(model, text_encoder_tensors(load_file(directory / "text_encoder.weights.safetensors")), place)
    result = model(input_ids=case["input_ids"], attention_mask=case["attention_mask"]).last_hidden_state
    counted = case["attention_mask"].bool()
    return relative_error(result[counted], case["hidden"][counted])


def _audio_codec(directory: Path, place: Place) -> Iterator[Case]:
    path = directory / "audio_codec.case.safetensors"
    if not path.is_file():
        return

    def compare(key: str, compute: Callable[[AudioVAE, Vocoder, dict[str, Tensor]], Tensor]) -> Case:
        def error() -> float:
            case = load_case(path, place)
            return relative_error(compute(*_load_audio_codec(directory, place), case), case[key])

        return Case(f"audio_codec/{key}", AUDIO_TOLERANCE, error)

    yield compare("latent_mean", lambda vae, vocoder, case: vae.encode(case["mel_in"]))
    yield compare("mel", lambda vae, vocoder, case: vae.decode(case["latent"]))
    yield compare("waveform", lambda vae, vocoder, case: vocoder(vae.decode(case["latent"])))


@cache
def _load_audio_codec(directory: Path, place: Place) -> tuple[AudioVAE, Vocoder]:
    place = Place(place.device)
    config = read_json(directory / "audio_codec.config.json")
    vae = filled(AudioVAE(**config["vae"]), load_file(directory / "audio_codec.vae.safetensors"), place)
    vocoder = Vocoder.from_config(config["vocoder"])
    filled(vocoder, vocoder_tensors(load_file(directory / "audio_codec.vocoder.safetensors")), place)
    return vae.fuse_weight_norm(), vocoder


def _pipeline(directory: Path, place: Place) -> Iterator[Case]:
    for path in sorted(directory.glob("pipeline.*.safetensors")):
        yield Case(path.stem, PIPELINE_TOLERANCE, lambda path=path: _pipeline_error(path, place))


def _pipeline_error(path: Path, place: Place) -> float:
    """The largest error of noise, latents, frames and samples."""
    case, metadata = load_case(path, place), read_metadata(path)
    pipeline = _build_pipeline(path.parent, case, place)
    spec = ClipSpec(
        prompt="embeddings are given",
        variant=pipeline.variant.name,
        steps=int(metadata["steps"]),
        solver=metadata["solver"],
        shift=float(metadata["shift"]),
        seed=int(metadata["seed"]),
        video_guidance=float(metadata["vg"]),
        audio_guidance=float(metadata["ag"]),
    )
    skip = int(metadata["slg"])
    vae = pipeline.models.video_vae
    first_frame = video_vae.encode(vae, case["first_frame"].unsqueeze(2))[0] if "first_frame" in case else None
    texts = TextEmbeddings(case["positive_embeds"], case["video_negative_embeds"], case["audio_negative_embeds"])
    noise = Latents(case["initial_video_noise"], case["initial_audio_noise"])
    if place.draws_as_the_reference:
        noise = pipeline.draw_noise(noise.video.shape[2:], spec.seed)
    latents = pipeline.denoise(spec, noise, texts, first_frame, skip if skip > 0 else None)
    return max(
        relative_error(noise.video, case["initial_video_noise"]),
        relative_error(noise.audio, case["initial_audio_noise"]),
        relative_error(latents.video.unsqueeze(0), case["video_latents"]),
        relative_error(latents.audio.T.unsqueeze(0), case["audio_latents"]),
        relative_error(video_vae.decode_whole(vae, latents.video), case["video"]),
        relative_error(pipeline.decoder.audio(latents.audio), case["audio"]),
    )


def _build_pipeline(directory: Path, case: dict[str, Tensor], place: Place) -> Pipeline:
    audio_vae, vocoder = _load_audio_codec(directory, place)
    models = Models(
        transformer=load_transformer(directory, place),
        text_encoder=nn.Identity(),
        tokenizer=SimpleNamespace(),
        video_vae=_load_video_vae(directory, place),
        audio_vae=audio_vae,
        vocoder=vocoder,
    )
    video, audio = case["initial_video_noise"], case["initial_audio_noise"]
    variant = Variant(
        name="reference",
        title="reference",
        video_latent_frames=video.shape[1],
        audio_latent_length=audio.shape[0],
        pixel_area=video.shape[2] * video.shape[3] * 256,
        default_size=(video.shape[2] * 16, video.shape[3] * 16),
        audio_tag=published_variants()["960x960_5s"].audio_tag,
        files={},
        dimensions={name: read_json(directory / f"{name}.config.json") for name in ("fusion", "video_vae")},
    )
    options = RuntimeOptions(memory=ALL_RESIDENT, compilation=False)
    return Pipeline(variant, models, Compute(place.device, place.dtype, options))
