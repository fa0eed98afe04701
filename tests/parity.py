"""Compare every model and rule with reference numbers of the official implementation.

`python tests/parity.py DIR` runs each case that it finds in a folder of the form of `tests/reference`, prints case,
error, tolerance and verdict, and ends with 1 if one fails. Configurations are read and cases globbed: a folder with
other sizes, seeds and case names works as well. With `--device cuda` the models compute on a GPU, in float32 without
TF32; random numbers differ there, so a clip begins with the noise of the case.
"""

import argparse
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "support"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from parity_adapters import find_adapter_cases, find_refused_adapters
from parity_case import CPU, Case, Place, read_json, relative_error
from parity_models import find_model_cases
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from ovi_studio.checkpoints.load import assign, text_encoder_tensors, video_vae_tensors, vocoder_tensors
from ovi_studio.core.prompts import format_prompt
from ovi_studio.core.sizes import picture_size, snap_size
from ovi_studio.core.variants import published_variants
from ovi_studio.media.pictures import read_picture
from ovi_studio.models import video_vae
from ovi_studio.models.audio_vae import AudioVAE
from ovi_studio.models.device import compute_device
from ovi_studio.models.text_encoder import build_text_encoder
from ovi_studio.models.transformer import OviTransformer
from ovi_studio.models.vocoder import Vocoder
from ovi_studio.runtime.conditioning import first_frame_pixels

IMAGE_TOLERANCE = 1e-6


def find_cases(directory: Path, place: Place = CPU) -> Iterator[Case]:
    """Every case in `directory`, in the order from parts to the whole."""
    yield from _host(directory)
    yield from _image(directory)
    yield from find_computing_cases(directory, place)
    yield from find_refused_adapters(directory)
    yield from _key_lists(directory)


def find_computing_cases(directory: Path, place: Place) -> Iterator[Case]:
    """The cases whose result depends on the device."""
    yield from find_model_cases(directory, place)
    yield from find_adapter_cases(directory, place)


# Host rules: sizes and prompts


def _host(directory: Path) -> Iterator[Case]:
    path = directory / "host.json"
    if not path.is_file():
        return
    groups = read_json(path)
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
        assign(model, adapt({name: torch.empty(shape) for name, shape in read_json(path).items()}))
    return 0


def _statistics_error(path: Path, config: dict[str, Any]) -> int:
    expected = read_json(path)
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
