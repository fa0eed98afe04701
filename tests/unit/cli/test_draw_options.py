"""Options of `generate` that let an image model draw the first frame."""

import dataclasses
from pathlib import Path

import pytest
from training_helpers import own_clip

from ovi_studio.__main__ import build_parser, main
from ovi_studio.cli import sources
from ovi_studio.core.drawing import Drawing
from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.runtime.options import RuntimeOptions


def one(bundle: Path, *arguments: object) -> ClipSpec:
    options = build_parser().parse_args(["generate", *map(str, arguments), "--ckpt-dir", str(bundle)])
    (spec,) = sources.collect(options, RuntimeOptions.of(options), None).specs
    return spec


def test_every_setting_of_the_drawing_has_an_option(tiny_bundle: Path, tmp_path: Path) -> None:
    assert one(tiny_bundle, "--prompt", "a ball", "--draw-first-frame").to_draw == Drawing()
    names = [field.name for field in dataclasses.fields(Drawing) if field.name != "sha256"]
    values = {"model": tmp_path, "prompt": "a cat", "negative_prompt": "fog", "steps": 8, "guidance": 2.0, "seed": 3}
    given = [word for name in names for word in (f"--image-{name.replace('_', '-')}", values[name])]
    made = one(tiny_bundle, "--prompt", "a ball", "--draw-first-frame", *given).to_draw
    assert made == Drawing(**values | {"model": str(tmp_path)})


def test_a_clip_is_made_again_with_another_first_frame(tiny_bundle: Path, tmp_path: Path) -> None:
    clip = own_clip(tmp_path, "clip", 3, caption=None)
    assert one(tiny_bundle, "--from", clip).drawing is None
    assert one(tiny_bundle, "--from", clip, "--draw-first-frame", "--image-steps", 3).to_draw == Drawing(steps=3)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--image-steps", "3"], "set draw_first_frame as well"),
        (["--draw-first-frame", "--image", "a.png"], "There is a first frame"),
    ],
)
def test_options_that_contradict_each_other_are_refused(given: list[str], sentence: str, tiny_bundle: Path) -> None:
    with pytest.raises(JobError, match=sentence):
        one(tiny_bundle, "--prompt", "a ball", *given)


def test_without_the_image_model_the_command_ends_with_how_to_get_it(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--prompt", "a ball", "--draw-first-frame", "--variant", "tiny", "--out", tmp_path / "out"]
    status = main(["generate", *map(str, arguments), "--ckpt-dir", str(tiny_bundle), "--device", "cpu"])
    assert status == 1
    assert "download black-forest-labs/FLUX.1-Krea-dev" in capsys.readouterr().err
