"""First frames that are drawn, asked for over the API: models by their names alone, and what a job says."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import gradio as gr
import pytest

from ovi_studio.core.errors import JobError
from ovi_studio.queue.model import ClipPhase, JobProgress
from ovi_studio.queue.work import EngineSession
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services.studio import Studio
from ovi_studio.web.api import ApiCalls
from ovi_studio.web.job_views import progress_words


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiCalls]:
    part = tmp_path / "ckpts" / "painter" / "small" / "vae"
    part.mkdir(parents=True)
    header = json.dumps({"a": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}).encode()
    (part / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(2))
    index = {"_class_name": "FluxPipeline", "vae": ["diffusers", "AutoencoderKL"]}
    (part.parent / "model_index.json").write_text(json.dumps(index))
    studio = Studio.open(tmp_path / "outputs", RuntimeOptions(checkpoint_directory=tmp_path / "ckpts"))
    yield ApiCalls(studio)
    studio.close()


def queue(api: ApiCalls, **settings: object) -> str:
    (job,) = api.queue("a red ball", settings={"draw_first_frame": True, **settings})["jobs"]
    return job


def test_a_queued_drawing_has_its_settings_and_steps_of_its_own(api: ApiCalls) -> None:
    job = queue(api, image_model="painter/small", image_steps=8, steps=50)
    facts = next(facts for facts in api.list() if facts["id"] == job)
    assert (facts["spec"]["drawing"]["model"], facts["spec"]["drawing"]["steps"]) == ("painter/small", 8)
    assert facts["steps"] == 50
    with EngineSession(api._studio.store.database, "worker") as work:
        claimed = work.claim()
        assert claimed is not None
        work.report(claimed, JobProgress(ClipPhase.DRAWING, 2, 8))
        running = api.get(job)
    assert progress_words(running)[:1] == ("Drawing the first frame: step 2 of 8",)
    (facts,) = [facts for facts in api.list() if facts["id"] == job]
    assert (facts["phase"], facts["step"], facts["steps"]) == ("drawing", 2, 8)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("/etc", "not the name of an image model"),
        ("../outputs", "not the name of an image model"),
        ("nobody/nothing", "download nobody/nothing"),
        ("nothing", "There is no image model nothing"),
    ],
)
def test_clients_name_models_and_no_folders(model: str, sentence: str, api: ApiCalls) -> None:
    with pytest.raises(gr.Error, match=sentence):
        queue(api, image_model=model)
    assert api.list() == []


def test_who_comes_to_a_page_for_anyone_downloads_no_repository(tmp_path: Path) -> None:
    options = RuntimeOptions(checkpoint_directory=tmp_path / "ckpts")
    for open_to_all in (False, True):
        with closing(Studio.open(tmp_path / "outputs", options, open_to_all=open_to_all)) as studio:
            assert studio.image_model_offered("somebody/huge") is not open_to_all
    with pytest.raises(JobError, match="downloaded by whoever runs this page"):
        studio.download_image_model("somebody/huge")
