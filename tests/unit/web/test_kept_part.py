"""What the Create form keeps of a clip while a part of it is made again, without a browser."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest

from ovi_studio.core.clip import Clip
from ovi_studio.core.errors import JobError
from ovi_studio.core.spans import ALL, parse_spans
from ovi_studio.core.spec import SOURCE_FIELDS, ClipSpec
from ovi_studio.media.clip_files import write_clip
from ovi_studio.media.sources import pin_source
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services.studio import Studio
from ovi_studio.web.tabs.create.handlers import CreateHandlers
from ovi_studio.web.tabs.create.kept import kept_settings
from ovi_studio.web.tabs.create.tab import CreateForm, build_form


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    studio = Studio.open(tmp_path / "outputs", RuntimeOptions(checkpoint_directory=tmp_path / "checkpoints"))
    yield studio
    studio.close()


@pytest.fixture
def form(studio: Studio) -> CreateForm:
    with gr.Blocks():
        return build_form(studio)[0]


def source_of(spec: ClipSpec) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in SOURCE_FIELDS}


def filled(form: CreateForm, *spec: ClipSpec, **options: Any) -> dict[int, Any]:
    """The updates of the form, by the id of their component."""
    return dict(zip(map(id, form.outputs), form.fill(*spec, **options), strict=True))


def kept_clip(studio: Studio) -> Path:
    spec = ClipSpec(prompt="a ball", variant="demo")
    frames = np.zeros((12, 64, 64, 3), np.uint8)
    return write_clip(Clip(spec, frames, np.zeros(8000, np.float32), None), studio.paths.outputs, "ball")


def test_what_is_kept_of_a_clip_goes_through_the_form(studio: Studio, form: CreateForm) -> None:
    kept: dict[str, Any] = {"keep_picture": ALL, "keep_sound": parse_spans("0-0.2"), "resamples": 2}
    source = pin_source(ClipSpec(prompt="a", variant="demo", source=kept_clip(studio), **kept))
    updates = filled(form, source)
    value = updates[id(form.kept)]
    assert str(studio.paths.outputs) not in str(value)
    given = kept_settings(studio, value)
    again = ClipSpec.from_dict({"prompt": "a", "variant": "demo", **given})
    assert source_of(again) == source_of(source)
    assert kept_settings(studio, None) == {}
    # And a clip without one takes it out.
    updates = filled(form, ClipSpec(prompt="a", variant="demo"))
    assert updates[id(form.kept)] is None
    # A prompt alone, as of a template, leaves it.
    updates = filled(form, prompt="b")
    assert updates[id(form.kept)] == gr.skip()


def test_an_edited_job_keeps_its_source(studio: Studio, form: CreateForm) -> None:
    spec = pin_source(ClipSpec(prompt="a ball", variant="demo", source=kept_clip(studio), keep_picture=ALL))
    (job,) = studio.store.add([spec])
    updates = filled(form, spec, editing=job)
    parts = [form.editing, form.ratio, form.seed_mode, form.seed, form.count, form.table, form.batch_name]
    parts += [form.priority, *form.fields.values()]
    values = [updates.get(id(part), part.value) for part in parts]
    values = [value.value if isinstance(value, gr.components.Component) else value for value in values]
    notice, *_ = CreateHandlers(studio, form).queue(*values)
    assert notice == ""
    saved = studio.store.get(job).spec
    assert source_of(saved) == source_of(spec)


def test_a_source_outside_the_library_is_said_to_be_left_out(form: CreateForm, tmp_path: Path) -> None:
    spec = ClipSpec(prompt="a", variant="demo", source=tmp_path / "holiday.mp4", keep_sound=ALL)
    updates = filled(form, spec)
    assert updates[id(form.kept)] is None
    assert "holiday.mp4" in updates[id(form.notice)]
    assert str(tmp_path) not in updates[id(form.notice)]


@pytest.mark.parametrize("value", [{"clip": "../state/x.mp4"}, {"clip": None}, {}], ids=["path", "nothing", "empty"])
def test_only_clips_of_the_library_are_kept(studio: Studio, value: dict[str, Any]) -> None:
    with pytest.raises(JobError, match="no longer in the library"):
        kept_settings(studio, value)
