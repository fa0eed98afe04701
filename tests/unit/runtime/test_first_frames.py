"""Drawn first frames: three families of image models, the official rules, the clip made of the picture, refusals."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_image_models import FAMILIES

from ovi_studio.capacity.drawing import DrawingPlacement
from ovi_studio.checkpoints.image_model import inspect
from ovi_studio.core.clip import Clip
from ovi_studio.core.drawing import Drawing
from ovi_studio.core.errors import JobError, Stopped
from ovi_studio.core.spec import ClipSpec
from ovi_studio.media.clip_files import read_record, read_spec
from ovi_studio.media.pictures import read_picture
from ovi_studio.queue.model import ClipPhase
from ovi_studio.runtime.clip_runner import ClipRunner
from ovi_studio.runtime.image_pipeline import ImagePipeline
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.runtime.pipeline import Pipeline
from ovi_studio.runtime.progress import StepSink

pytestmark = pytest.mark.slow  # diffusers imports every pipeline to know which of them draw pictures
SPEC = ClipSpec(prompt="a red ball <S>hello<E>", variant="tiny", steps=2, seed=7)
CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def image_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folder of a tiny image model by its family; not to be changed."""
    folder = tmp_path_factory.mktemp("image_models")
    return {family: write(folder / family) for family, write in FAMILIES.items()}


@pytest.fixture
def flux(image_models: dict[str, Path]) -> ImagePipeline:
    return ImagePipeline(inspect(image_models["flux"], "flux"), CPU, torch.float32)


class Sink(StepSink):
    """Notes what it is told, and ends the clip where it is asked to."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__()
        self.phases: list[ClipPhase] = []
        self.drawings: list[tuple[int, int, Any]] = []
        self._stop_after = stop_after

    def phase(self, phase: ClipPhase) -> None:
        self.phases.append(phase)

    def drawn(self, index: int, total: int, latents: Any = None) -> None:
        self.drawings.append((index, total, latents))
        if index == self._stop_after:
            raise Stopped


def drawing(model: Path, **changes: Any) -> ClipSpec:
    return dataclasses.replace(SPEC, drawing=Drawing(model=str(model), **{"steps": 2, **changes}))


def runner(bundle: Path) -> ClipRunner:
    return ClipRunner(RuntimeOptions(checkpoint_directory=bundle, device="cpu"))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_draws_the_same_picture_wherever_its_parts_are(family: str, image_models: dict[str, Path]) -> None:
    pipeline = ImagePipeline(inspect(image_models[family], family), CPU, torch.float32)
    found = []
    for placement in DrawingPlacement:
        seen: list[tuple[int, int, bool]] = []
        drawn = pipeline.draw(
            "a red ball",
            (32, 48),
            3,
            placement,
            lambda index, total, latents, seen=seen: seen.append((index, total, latents is not None)),
            negative_prompt="blur",
            steps=2,
            guidance=2.0,
        )
        assert seen == [(1, 2, True), (2, 2, True)]
        assert (drawn.steps, drawn.guidance) == (2, 2.0)
        found.append(drawn.pixels)
    assert found[0].shape == (32, 48, 3)
    assert found[0].std() > 0
    for other in found[1:]:  # parts in other memory may be added up in another order
        assert np.abs(found[0].astype(int) - other).max() <= 1


@pytest.mark.parametrize("setting", [{"seed": 4}, {"guidance": 3.0}, {"steps": 3}, {"negative_prompt": "blur"}])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_setting_changes_the_picture(family: str, setting: dict[str, Any], image_models: dict[str, Path]) -> None:
    pipeline = ImagePipeline(inspect(image_models[family], family), CPU, torch.float32)

    def draw(seed: int = 3, **more: Any) -> np.ndarray:
        given = {"steps": 2, "guidance": 2.0, **more}
        return pipeline.draw("a dog", (32, 32), seed, DrawingPlacement.WHOLE, lambda *_: None, **given).pixels

    assert np.array_equal(draw(), draw())
    assert not np.array_equal(draw(), draw(**setting))


def test_the_picture_is_the_one_of_the_official_call(flux: ImagePipeline) -> None:
    drawn = flux.draw("a red ball", (64, 96), 5, DrawingPlacement.WHOLE, lambda *_: None, steps=2, guidance=4.5)
    official = flux._pipe(
        prompt="a red ball",
        height=64,
        width=96,
        num_inference_steps=2,
        guidance_scale=4.5,
        generator=torch.Generator().manual_seed(5),
    )
    assert np.array_equal(drawn.pixels, np.asarray(official.images[0]))


def test_a_clip_of_a_drawn_frame_equals_one_made_by_hand_from_its_picture(
    tiny_bundle: Path, image_models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs: list[torch.Tensor] = []
    denoise = Pipeline.denoise

    def noted(self: Pipeline, spec: ClipSpec, noise: Any, texts: Any, first_frame: torch.Tensor, *rest: Any) -> Any:
        inputs.append(first_frame)
        return denoise(self, spec, noise, texts, first_frame, *rest)

    monkeypatch.setattr(Pipeline, "denoise", noted)
    maker, sink = runner(tiny_bundle), Sink()
    path = maker.make(drawing(image_models["flux"]), tmp_path / "out", sink)
    assert sink.phases[:2] == [ClipPhase.LOADING, ClipPhase.DRAWING]
    assert [step[:2] for step in sink.drawings] == [(1, 2), (2, 2)]

    record = read_record(path)["spec"]["drawing"]
    assert record["model"] == "flux"  # and not its path
    assert (record["prompt"], record["steps"], record["guidance"], record["seed"]) == ("a red ball", 2, 3.5, 7)
    assert len(record["sha256"]) == 64
    again = read_spec(path, tmp_path / "pictures")
    assert again.to_draw is None
    picture = again.image
    assert picture is not None
    kept = tmp_path / "out" / "pictures" / picture.name
    assert kept.read_bytes() == picture.read_bytes()

    shutil.rmtree(tmp_path / "out")
    by_hand = dataclasses.replace(SPEC, image=picture)
    clips: list[Clip] = [maker.run(again), maker.run(by_hand)]
    assert len(inputs) == 3
    assert all(torch.equal(inputs[0], other) for other in inputs[1:])
    assert np.array_equal(clips[0].samples, clips[1].samples)


def test_cancelled_within_a_step_and_nothing_is_left(
    tiny_bundle: Path, image_models: dict[str, Path], tmp_path: Path
) -> None:
    sink = Sink(stop_after=1)
    with pytest.raises(Stopped):
        runner(tiny_bundle).draw(drawing(image_models["pixart"], steps=9), tmp_path / "pictures", sink)
    assert [step[:2] for step in sink.drawings] == [(1, 9)]
    assert not (tmp_path / "pictures").exists()


def test_the_size_is_that_of_the_model_and_of_the_clips_aspect_ratio(
    tiny_bundle: Path, image_models: dict[str, Path], tmp_path: Path
) -> None:
    spec = dataclasses.replace(drawing(image_models["stable-diffusion"]), size=(64, 128))
    made = runner(tiny_bundle).draw(spec, tmp_path)
    assert made.image is not None
    height, width = read_picture(made.image).pixels.shape[:2]
    assert height < width
    assert (height % 16, width % 16) == (0, 0)


def spoil(folder: Path, what: Callable[[Path], None], tmp_path: Path) -> Path:
    """A copy of an image model, spoiled."""
    copy = tmp_path / "spoiled"
    shutil.copytree(folder, copy)
    what(copy)
    return copy


def change(name: str, **entries: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | entries))

    return apply


def pickled(folder: Path) -> None:
    weights = next((folder / "vae").glob("*.safetensors"))
    weights.rename(weights.with_suffix(".bin"))


def nan(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = next((folder / "vae").glob("*.safetensors"))
    save_file({name: tensor * float("nan") for name, tensor in load_file(path).items()}, path)


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        (change("model_index.json", _class_name="WanPipeline"), "draws no pictures from text; choose"),
        (change("model_index.json", _class_name=["own", "OwnPipeline"]), "trust_remote_code"),
        (change("model_index.json", unet=["own", "OwnModel"]), "trust_remote_code"),
        (change("text_encoder/config.json", auto_map={"AutoModel": "own.Model"}), "trust_remote_code"),
        (lambda folder: (folder / "unet" / "own.py").write_text("raise SystemExit"), "trust_remote_code"),
        (pickled, "is a pickle, which can run code and is never loaded"),
        (nan, "with NaN"),
        (lambda folder: (folder / "model_index.json").unlink(), "has no model_index.json"),
        (lambda folder: (folder / "model_index.json").write_text("{"), "not valid JSON"),
        (lambda folder: shutil.rmtree(folder / "vae"), "vae is missing"),
        (lambda folder: next((folder / "vae").glob("*.safetensors")).write_bytes(b"12345678"), "safetensors file"),
    ],
)
def test_what_is_no_usable_image_model_is_refused_in_a_sentence(
    what: Callable[[Path], None], sentence: str, tiny_bundle: Path, image_models: dict[str, Path], tmp_path: Path
) -> None:
    model = spoil(image_models["stable-diffusion"], what, tmp_path)
    with pytest.raises(JobError, match=sentence):
        runner(tiny_bundle).draw(drawing(model), tmp_path / "pictures")
    assert not (tmp_path / "pictures").exists()


def test_a_prompt_of_speech_alone_cannot_be_drawn(
    tiny_bundle: Path, image_models: dict[str, Path], tmp_path: Path
) -> None:
    spec = dataclasses.replace(drawing(image_models["flux"]), prompt="<S>Hello<E>")
    with pytest.raises(JobError, match="add an image prompt"):
        runner(tiny_bundle).draw(spec, tmp_path)


def test_a_model_that_is_not_here_is_named_with_its_download(tiny_bundle: Path, tmp_path: Path) -> None:
    spec = dataclasses.replace(SPEC, drawing=Drawing())
    with pytest.raises(JobError, match=r"download black-forest-labs/FLUX.1-Krea-dev .*34 GB, FLUX.1 \[dev\] Non-Comm"):
        runner(tiny_bundle).draw(spec, tmp_path)
