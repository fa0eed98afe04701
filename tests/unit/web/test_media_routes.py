"""Pictures for the browser, as the routes answer them."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from ovi_studio.core.spec import ClipSpec
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services.studio import Studio
from ovi_studio.web.media_routes import media_routes


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    studio = Studio.open(tmp_path / "outputs", RuntimeOptions(checkpoint_directory=tmp_path / "checkpoints"))
    yield studio
    studio.close()


@pytest.mark.parametrize(("raw", "colour"), [(False, (255, 255, 255)), (True, (255, 0, 255))])
def test_the_picture_of_a_waiting_job_has_the_colours_that_its_clip_will_have(
    studio: Studio, tmp_path: Path, raw: bool, colour: tuple[int, ...]
) -> None:
    picture = tmp_path / "logo.png"
    Image.new("RGBA", (600, 400), (255, 0, 255, 0)).save(picture)
    (job,) = studio.store.add([ClipSpec(prompt="a", variant="b", image=picture, raw_colours=raw)], "")
    answer = TestClient(Starlette(routes=media_routes(studio))).get(f"/studio/job/{job}/picture.jpg")
    assert answer.status_code == 200
    with Image.open(io.BytesIO(answer.content)) as shown:
        assert shown.size == (192, 128)
        assert np.abs(np.asarray(shown).astype(int) - colour).max() <= 4
