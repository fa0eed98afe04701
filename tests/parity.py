"""Compare every model and rule with reference numbers of the official implementation.

`python tests/parity.py DIR` runs each case that it finds in a folder of the form of `tests/reference`, prints case,
error, tolerance and verdict, and ends with 1 if one fails. Configurations are read and cases globbed: a folder with
other sizes, seeds and case names works as well. With `--device cuda` the models compute on a GPU, in float32 without
TF32; random numbers differ there, so a clip begins with the noise of the case.
"""

import argparse
import json
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ovi_studio.adapters.header import locate, read_header
from ovi_studio.adapters.manager import AdapterManager
from ovi_studio.adapters.match import match_header
from ovi_studio.adapters.names import NameMap
from ovi_studio.adapters.read import read_adapter
from ovi_studio.capacity.tiers import ALL_RESIDENT
from ovi_studio.checkpoints.load import Models, assign, text_encoder_tensors, video_vae_tensors, vocoder_tensors
from ovi_studio.core.adapter_stack import AdapterUse, Strength
from ovi_studio.core.errors import JobError
from ovi_studio.core.prompts import format_prompt
from ovi_studio.core.sizes import picture_size, snap_size
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.variants import Variant, published_variants
from ovi_studio.media.pictures import read_picture
from ovi_studio.models import video_vae
from ovi_studio.models.audio_vae import AudioVAE
from ovi_studio.models.device import compute_device
from ovi_studio.models.text_encoder import build_text_encoder
from ovi_studio.models.transformer import OviTransformer
from ovi_studio.models.vocoder import Vocoder
from ovi_studio.runtime.conditioning import TextEmbeddings, first_frame_pixels
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.runtime.pipeline import Compute, Pipeline
from ovi_studio.sampling.denoise import Latents
from ovi_studio.sampling.solvers import advance, build_scheduler, timesteps

TRANSFORMER_TOLERANCE = 2e-5
SOLVER_TOLERANCE = 1e-6
CODEC_TOLERANCE = 5e-6
AUDIO_TOLERANCE = 2e-5
PIPELINE_TOLERANCE = 1e-4
IMAGE_TOLERANCE = 1e-6
ADAPTER_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Place:
    """Where the models compute, and in which number format; the audio codec is float32 everywhere."""

    device: torch.device
    dtype: torch.dtype = torch.float32

    @property
    def draws_as_the_reference(self) -> bool:
        """Random numbers depend on the device and on the number format."""
        return self == CPU


CPU = Place(torch.device("cpu"))


@dataclass(frozen=True)
class Case:
    """One comparison; `error` computes the relative L2 error, or the number of wrong answers where equality counts."""

    name: str
    tolerance: float
    error: Callable[[], float]


def find_cases(directory: Path, place: Place = CPU) -> Iterator[Case]:
    """Every case in `directory`, in the order from parts to the whole."""
    yield from _host(directory)
    yield from _image(directory)
    yield from find_computing_cases(directory, place)
    yield from _refused_adapters(directory)
    yield from _key_lists(directory)


def find_computing_cases(directory: Path, place: Place) -> Iterator[Case]:
    """The cases whose result depends on the device."""
    for find in (_fusion, _solvers, _video_vae, _text_encoder, _audio_codec, _pipeline, _adapters):
        yield from find(directory, place)


def forget_models() -> None:
    """Give back the memory of the models that several cases share."""
    for load in (_transformer, _load_video_vae, _load_audio_codec):
        load.cache_clear()


def relative_error(result: Tensor, expected: Tensor) -> float:
    """Relative L2 error; a wrong shape or a value that is no number is infinitely wrong."""
    if result.shape != expected.shape or not torch.isfinite(result).all():
        return float("inf")
    result, expected = result.cpu(), expected.cpu()
    difference = torch.linalg.vector_norm(result.double() - expected.double())
    return (difference / torch.linalg.vector_norm(expected.double())).item()


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata() or {}


def _filled(model: nn.Module, tensors: dict[str, Tensor], place: Place) -> Any:
    return assign(model, {name: tensor.to(place.device, place.dtype) for name, tensor in tensors.items()})


def _load_case(path: Path, place: Place) -> dict[str, Tensor]:
    return {name: tensor.to(place.device) for name, tensor in load_file(path).items()}


# Host rules: sizes and prompts


def _host(directory: Path) -> Iterator[Case]:
    path = directory / "host.json"
    if not path.is_file():
        return
    groups = _read_json(path)
    for name, rule in (("snap_size", snap_size), ("image_size", picture_size)):
        yield Case(f"host/{name}", 0, lambda name=name, rule=rule: _wrong_sizes(groups.get(name, []), rule))
    yield Case("host/prompt_format", 0, lambda: _wrong_prompts(groups.get("prompt_format", [])))


def _wrong_sizes(entries: list[dict[str, Any]], rule: Callable[[int, int, int], tuple[int, int]]) -> int:
    return sum(list(rule(entry["height"], entry["width"], entry["area"])) != entry["out"] for entry in entries)


def _wrong_prompts(entries: list[dict[str, str]]) -> int:
    variants = published_variants()
    return sum(
        format_prompt(entry["prompt"], variants[name].audio_tag) != expected
        for entry in entries
        for name, expected in entry.items()
        if name in variants
    )


def _image(directory: Path) -> Iterator[Case]:
    for path in sorted(directory.glob("image*.safetensors")):
        yield Case(path.stem, IMAGE_TOLERANCE, lambda path=path: _image_error(path))


def _image_error(path: Path) -> float:
    case = load_file(path)
    expected = case["first_frame"]
    with tempfile.TemporaryDirectory() as folder:
        # Through a picture file, as a first frame really comes.
        picture_path = Path(folder) / "picture.png"
        Image.fromarray(case["image"].numpy()).save(picture_path)
        pixels = read_picture(picture_path, raw_colours=True).pixels
    return relative_error(first_frame_pixels(pixels, expected.shape[2] * expected.shape[3]), expected)


# Models


def _fusion(directory: Path, place: Place) -> Iterator[Case]:
    for path in sorted(directory.glob("fusion.*.safetensors")):
        if path.name != "fusion.weights.safetensors":
            yield Case(path.stem, TRANSFORMER_TOLERANCE, lambda path=path: _fusion_error(path, place))


def _fresh_transformer(directory: Path, place: Place) -> OviTransformer:
    """One that may be changed; the other cases share theirs."""
    model = OviTransformer(**_read_json(directory / "fusion.config.json"))
    return _filled(model, load_file(directory / "fusion.weights.safetensors"), place)


@cache
def _transformer(directory: Path, place: Place) -> OviTransformer:
    return _fresh_transformer(directory, place)


def _fusion_error(path: Path, place: Place) -> float:
    case, metadata = _load_case(path, place), _metadata(path)
    model = _transformer(path.parent, place)
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
    tensors = _load_case(path, place)
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
            case = _load_case(path, place)
            return relative_error(compute(_load_video_vae(directory, place), case), case[key])

        return Case(f"video_vae/{key}", CODEC_TOLERANCE, error)

    yield compare("encoded", lambda vae, case: video_vae.encode(vae, case["video"]))
    yield compare("first_frame_encoded", lambda vae, case: video_vae.encode(vae, case["video"][:, :, :1]))
    yield compare("decoded", lambda vae, case: video_vae.decode_whole(vae, case["latent"][0]).unsqueeze(0))


@cache
def _load_video_vae(directory: Path, place: Place) -> Any:
    model = video_vae.build_video_vae(_read_json(directory / "video_vae.config.json"))
    return _filled(model, video_vae_tensors(load_file(directory / "video_vae.weights.safetensors")), place)


def _text_encoder(directory: Path, place: Place) -> Iterator[Case]:
    if (directory / "text_encoder.case.safetensors").is_file():
        yield Case("text_encoder", CODEC_TOLERANCE, lambda: _text_encoder_error(directory, place))


def _text_encoder_error(directory: Path, place: Place) -> float:
    case = _load_case(directory / "text_encoder.case.safetensors", place)
    model = build_text_encoder(_read_json(directory / "text_encoder.config.json"))
    _filled(model, text_encoder_tensors(load_file(directory / "text_encoder.weights.safetensors")), place)
    result = model(input_ids=case["input_ids"], attention_mask=case["attention_mask"]).last_hidden_state
    counted = case["attention_mask"].bool()
    return relative_error(result[counted], case["hidden"][counted])


def _audio_codec(directory: Path, place: Place) -> Iterator[Case]:
    path = directory / "audio_codec.case.safetensors"
    if not path.is_file():
        return

    def compare(key: str, compute: Callable[[AudioVAE, Vocoder, dict[str, Tensor]], Tensor]) -> Case:
        def error() -> float:
            case = _load_case(path, place)
            return relative_error(compute(*_load_audio_codec(directory, place), case), case[key])

        return Case(f"audio_codec/{key}", AUDIO_TOLERANCE, error)

    yield compare("latent_mean", lambda vae, vocoder, case: vae.encode(case["mel_in"]))
    yield compare("mel", lambda vae, vocoder, case: vae.decode(case["latent"]))
    yield compare("waveform", lambda vae, vocoder, case: vocoder(vae.decode(case["latent"])))


@cache
def _load_audio_codec(directory: Path, place: Place) -> tuple[AudioVAE, Vocoder]:
    place = Place(place.device)
    config = _read_json(directory / "audio_codec.config.json")
    vae = _filled(AudioVAE(**config["vae"]), load_file(directory / "audio_codec.vae.safetensors"), place)
    vocoder = Vocoder.from_config(config["vocoder"])
    _filled(vocoder, vocoder_tensors(load_file(directory / "audio_codec.vocoder.safetensors")), place)
    return vae.fuse_weight_norm(), vocoder


# The whole pipeline


def _pipeline(directory: Path, place: Place) -> Iterator[Case]:
    for path in sorted(directory.glob("pipeline.*.safetensors")):
        yield Case(path.stem, PIPELINE_TOLERANCE, lambda path=path: _pipeline_error(path, place))


def _pipeline_error(path: Path, place: Place) -> float:
    """The largest error of noise, latents, frames and samples."""
    case, metadata = _load_case(path, place), _metadata(path)
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
        transformer=_transformer(directory, place),
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
        dimensions={name: _read_json(directory / f"{name}.config.json") for name in ("fusion", "video_vae")},
    )
    options = RuntimeOptions(memory=ALL_RESIDENT, compilation=False)
    return Pipeline(variant, models, Compute(place.device, place.dtype, options))


# Adapters


def _adapters(directory: Path, place: Place) -> Iterator[Case]:
    for expected in sorted((directory / "lora").glob("*.expected.safetensors")):
        name = expected.name.removesuffix(".expected.safetensors")
        file = expected.with_name(f"{name}.safetensors")
        path = file if file.is_file() else file.with_suffix("")
        yield Case(
            f"lora/{name}/fused", ADAPTER_TOLERANCE, lambda path=path, to=expected: _fused_error(path, to, place)
        )
        yield Case(
            f"lora/{name}/run_time", ADAPTER_TOLERANCE, lambda path=path, to=expected: _run_time_error(path, to, place)
        )
        yield Case(f"lora/{name}/report", 0, lambda path=path, to=expected: _report_error(path, to))


def _fused_error(path: Path, expected: Path, place: Place) -> float:
    """What the parameters differ by after fusing; infinite if one differs that should not."""
    model = _fresh_transformer(path.parent.parent, place)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    AdapterManager(model, lambda _: path).prepare((AdapterUse(name=path.name),), steps=1)
    differences = _load_case(expected, place)
    after = {name: parameter - before[name] for name, parameter in model.named_parameters()}
    if any(change.any() for name, change in after.items() if name not in differences):
        return float("inf")
    return max(relative_error(after[name], difference) for name, difference in differences.items())


def _run_time_error(path: Path, expected: Path, place: Place) -> float:
    """What a scheduled adapter changes in its first step: layers by what they answer, other parameters by value."""
    model = _fresh_transformer(path.parent.parent, place)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    use = AdapterUse(name=path.name, video=Strength.parse("1;0"), audio=Strength.parse("1;0"))
    AdapterManager(model, lambda _: path).prepare((use,), steps=2)
    errors = []
    for name, difference in _load_case(expected, place).items():
        owner, _, kind = name.rpartition(".")
        layer = model.get_submodule(owner)
        if kind == "weight" and hasattr(layer, "get_base_layer"):
            unit = torch.eye(layer.in_features, device=place.device, dtype=place.dtype)
            change = (layer(unit) - layer.get_base_layer()(unit)).T
        else:
            plain = layer.get_base_layer() if hasattr(layer, "get_base_layer") else layer
            change = getattr(plain, kind) - before[name]
        errors.append(relative_error(change, difference))
    return max(errors)


def _report_error(path: Path, expected: Path) -> int:
    """Tensors of the file that are neither used nor reported as left out, and parameters changed wrongly or not."""
    names = _name_map(_transformer(path.parent.parent, CPU))
    header = read_header(locate(path).weights)
    match = match_header(path.name, header, names)
    used = {tensor for change in match.changes for tensor in change.tensors.values()}
    left_out = {item.tensor for item in match.report.unused}
    silent = bool(left_out) and match.report.warning() is None
    changed = {change.parameter for change in match.changes}
    return len(header.tensors.keys() ^ (used | left_out)) + len(changed ^ load_file(expected).keys()) + silent


def _refused_adapters(directory: Path) -> Iterator[Case]:
    for path in sorted((directory / "lora" / "rejected").glob("*")):
        yield Case(f"lora/rejected/{path.name}", 0, lambda path=path: _refusal_error(path))


REASONS = {
    "empty": "is empty",
    "half": "contains only a part of its change",
    "html": "is a web page",
    "lfs": "is a git-lfs pointer",
    "nan": "contains NaN or infinite values",
    "match": "does not match this model",
    "pickle": "is a pickle",
    "truncated": "was cut off",
    "wrong": "was made for",
}
"""A word in the name of a refused case -> what the sentence must say."""


def _refusal_error(path: Path) -> int:
    """0 if the file is there and is refused with a sentence that says what its name does, without opening a pickle."""
    if not path.is_file():
        return 1
    reasons = [REASONS[word] for word in path.stem.split("_") if word in REASONS]
    names = _name_map(_transformer(path.parent.parent.parent, CPU))
    never = AssertionError("a pickle was opened")
    with (
        patch("torch.load", side_effect=never),
        patch("pickle.load", side_effect=never),
        patch("pickle.loads", side_effect=never),
        patch("pickle.Unpickler", side_effect=never),
    ):
        try:
            read_adapter(path, names)
        except JobError as error:
            said = str(error)
            named = said.startswith(path.name) and said.endswith(".")
            return 0 if named and all(reason in said for reason in reasons) else 1
    return 1


def _name_map(model: nn.Module) -> NameMap:
    return NameMap({name: tuple(parameter.shape) for name, parameter in model.named_parameters()})


# Names and shapes of the real checkpoints


def _key_lists(directory: Path) -> Iterator[Case]:
    sizes = published_variants()["960x960_5s"].dimensions
    codec = sizes["audio_codec"]
    builders: dict[str, tuple[Callable[[], nn.Module], Callable[[dict[str, Tensor]], dict[str, Tensor]]]] = {
        "ovi_fusion": (lambda: OviTransformer(**sizes["fusion"]), dict),
        "wan2.2_vae": (lambda: video_vae.build_video_vae(sizes["video_vae"]), video_vae_tensors),
        "umt5_xxl_encoder": (lambda: build_text_encoder(sizes["text_encoder"]), text_encoder_tensors),
        "mmaudio_vae_16k": (lambda: AudioVAE(**codec["vae"]), dict),
        "bigvgan_16k": (lambda: Vocoder.from_config(codec["vocoder"]), vocoder_tensors),
    }
    for name, (build, adapt) in builders.items():
        path = directory / "keys" / f"{name}.keys.json"
        if path.is_file():
            yield Case(
                f"keys/{name}", 0, lambda path=path, build=build, adapt=adapt: _key_list_error(path, build, adapt)
            )
    statistics = directory / "keys" / "wan2.2_vae.latent_stats.json"
    if statistics.is_file():
        yield Case("keys/wan2.2_vae.latent_stats", 0, lambda: _statistics_error(statistics, sizes["video_vae"]))


def _key_list_error(
    path: Path, build: Callable[[], nn.Module], adapt: Callable[[dict[str, Tensor]], dict[str, Tensor]]
) -> int:
    """0 if a full-size model takes exactly these tensors; `assign` raises for any other name or shape."""
    with torch.device("meta"):
        model = build()
        assign(model, adapt({name: torch.empty(shape) for name, shape in _read_json(path).items()}))
    return 0


def _statistics_error(path: Path, config: dict[str, Any]) -> int:
    expected = _read_json(path)
    return sum(config[name] != expected[name] for name in ("latents_mean", "latents_std"))


@torch.no_grad()
def evaluate(case: Case) -> tuple[float, str]:
    """Error and verdict; a case that raises has failed."""
    try:
        error = case.error()
    except Exception:
        traceback.print_exc()
        return float("inf"), "FAILED"
    return error, "ok" if error <= case.tolerance else "FAILED"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="folder with reference numbers")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the models compute")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU that PyTorch can use; leave --device out")
    directory, place = options.directory, CPU if options.device == "cpu" else Place(compute_device())
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    cases = list(find_cases(directory, place))
    if not cases:
        print(f"There is no reference case in {directory}; name a folder in the form of tests/reference.")
        return 1
    failed = 0
    print(f"{'case':<44} {'error':>10} {'tolerance':>10}  verdict")
    for case in cases:
        error, verdict = evaluate(case)
        failed += verdict != "ok"
        print(f"{case.name:<44} {error:>10.2e} {case.tolerance:>10.0e}  {verdict}", flush=True)
    print(f"{len(cases) - failed} of {len(cases)} cases agree with the official implementation")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
