"""Pictures and sounds for the browser, as the routes answer them."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from ovi_studio.core.clip import Clip
from ovi_studio.core.spec import ClipSpec
from ovi_studio.media.clip_files import write_clip
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


def done_clip(studio: Studio, prompt: str = "A man says, <S>Hello there.<E>") -> tuple[str, Path]:
    """A job whose clip was made, with sound in its second half; returns its id and its file."""
    samples = np.concatenate([np.zeros(8000), 0.5 * np.sin(np.arange(8000) / 8)]).astype(np.float32)
    spec = ClipSpec(prompt=prompt, variant="demo")
    (job,) = studio.store.add([spec], "")
    clip = write_clip(Clip(spec, np.zeros((24, 64, 64, 3), np.uint8), samples, None), studio.paths.outputs, job)
    with studio.store.database.write() as connection:
        connection.execute("UPDATE jobs SET state = 'done', clip = ? WHERE id = ?", (clip.name, job))
    return job, clip


def test_the_sound_of_a_clip_is_served_with_its_speech_by_job_and_by_clip(studio: Studio) -> None:
    job, clip = done_clip(studio)
    client = TestClient(Starlette(routes=media_routes(studio)))
    found = client.get(f"/studio/job/{job}/sound.json")
    assert found.status_code == 200
    content = found.json()
    count = len(content["peaks"]) // 2
    assert max(content["peaks"][: count - 20]) < 10 < 50 < max(content["peaks"][count:])
    (line,) = content["speech"]
    assert line["who"] == "A man says"
    assert [word for word, _, _ in line["words"]] == ["Hello", "there."]
    assert 0.4 < line["words"][0][1] < line["words"][-1][2] <= content["seconds"]
    assert client.get(f"/studio/clip/{studio.library.find(clip.name)}/sound.json").json() == content
    picture = client.get(f"/studio/job/{job}/spectrogram.png")
    with Image.open(io.BytesIO(picture.content)) as shown:
        assert shown.mode == "LA"
        assert shown.width == count


def test_no_sound_is_served_of_what_is_no_clip_of_the_folder(studio: Studio, tmp_path: Path) -> None:
    job, clip = done_clip(studio)
    (waiting,) = studio.store.add([ClipSpec(prompt="a", variant="demo")], "")
    elsewhere = tmp_path / "elsewhere.mp4"
    clip.rename(elsewhere)
    clip.symlink_to(elsewhere)
    client = TestClient(Starlette(routes=media_routes(studio)))
    for name in (job, waiting, "unknown", "..%2F.."):
        for file in ("sound.json", "spectrogram.png", "clip.mp4"):
            assert client.get(f"/studio/job/{name}/{file}").status_code == 404
