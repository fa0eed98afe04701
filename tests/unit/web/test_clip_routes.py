"""What the browser reads about clips, and the files that it sends, as the routes answer."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import HOSTILE
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient
from tab_server import make_clip

from ovi_studio.library import Query
from ovi_studio.media.content_credentials import local_identity, sign
from ovi_studio.media.score_box import write_scores
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services import intake
from ovi_studio.services.clip_bundle import TABLE
from ovi_studio.services.studio import Studio
from ovi_studio.services.upload_folder import UploadFolder
from ovi_studio.web.drop.routes import drop_routes
from ovi_studio.web.guard import MAX_BODY_SIZE, MAX_DROP_SIZE, Guard, LoginLimit
from ovi_studio.web.hosts import Hosts
from ovi_studio.web.media_routes import media_routes


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    studio = Studio.open(tmp_path / "outputs", RuntimeOptions(checkpoint_directory=tmp_path / "checkpoints"))
    yield studio
    studio.close()


@pytest.fixture
def app(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> Starlette:
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    uploads = UploadFolder(studio.paths.uploads)
    guard = Middleware(Guard, limit=LoginLimit(), hosts=Hosts("testserver"), uploads=uploads)
    return Starlette(routes=[*media_routes(studio), *drop_routes(studio.intake)], middleware=[guard])


@pytest.fixture
def client(app: Starlette) -> TestClient:
    return TestClient(app)


def ids(studio: Studio, *prompts: str) -> list[str]:
    for number, prompt in enumerate(prompts):
        make_clip(studio.paths.outputs, prompt, made=number)
    studio.library.refresh()
    return [clip.id for clip in studio.library.search(Query(order="oldest")).clips]


def lock(app: Starlette) -> None:
    """Let the server ask for a login."""
    app.auth, app.cookie_id, app.tokens = object(), "x", {"right": "studio"}  # type: ignore[attr-defined]


def test_a_clip_is_described_with_what_was_noted_about_it(studio: Studio, client: TestClient) -> None:
    (clip,) = ids(studio, HOSTILE)
    studio.library.set_favourite([clip], True)
    studio.library.change_tags([clip], add=["sea"])
    found = client.get(f"/studio/clip/{clip}/about.json")
    about = found.json()
    assert (about["prompt"], about["favourite"], about["tags"]) == (HOSTILE, True, ["sea"])
    assert dict(about["facts"])["Model"] == "960x960, 5 seconds"
    assert dict(about["facts"])["Mark"].startswith("made by a model (http")
    assert "Content Credentials" not in dict(about["facts"])
    assert str(studio.paths.outputs) not in found.text
    assert client.get(f"/studio/clip/{'0' * 32}/about.json").status_code == 404


def test_what_was_measured_and_signed_is_told_and_verified(studio: Studio, client: TestClient, tmp_path: Path) -> None:
    (clip,) = ids(studio, HOSTILE)

    def facts() -> dict[str, str]:
        studio.library.refresh()
        answer = client.get(f"/studio/clip/{clip}/about.json")
        assert answer.status_code == 200, answer.text
        return dict(answer.json()["facts"])

    path = studio.library.path(clip)
    write_scores(path, {"word_error_rate": 0.25, "loudness": -20.4, "faults": []})
    sign(path, local_identity(tmp_path / "signing"))
    assert facts()["Checks"] == "25% of the words are wrong; -20 LUFS"
    assert facts()["Content Credentials"].startswith("unchanged since it was signed; signed by Ovi Studio local")
    data = bytearray(path.read_bytes())
    data[data.index(b"mdat") + 50] ^= 1
    path.write_bytes(data)
    assert facts()["Content Credentials"].startswith("INVALID (assertion.bmffHash.mismatch)")


def test_the_posted_clips_come_as_one_zip_and_those_that_are_gone_are_left_out(
    studio: Studio, client: TestClient
) -> None:
    fox, harbour = ids(studio, "A fox", "A harbour")
    answer = client.post("/studio/clips.zip", data={"ids": f"{harbour} {'0' * 32} ../../etc {fox} {fox}"})
    assert "attachment" in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert [name.split("_")[1] if "_" in name else name for name in archive.namelist()] == [TABLE, "harbour", "fox"]
    assert client.post("/studio/clips.zip", data={"ids": "0" * 32}).status_code == 404
    assert client.post("/studio/clips.zip").status_code == 404
    assert client.get("/studio/clips.zip").status_code == 405


def test_a_file_is_received_whole_and_named_by_a_ticket(studio: Studio, client: TestClient) -> None:
    data = bytes(range(256)) * 12_000
    answer = client.post("/studio/drop", params={"name": "../Füchse.png"}, content=data)
    (path,) = (studio.paths.uploads / "dropped" / answer.json()["ticket"]).iterdir()
    assert (path.name, path.read_bytes() == data) == ("Füchse.png", True)
    assert str(studio.paths.uploads) not in answer.text


def test_a_file_that_is_refused_or_breaks_off_leaves_nothing(
    studio: Studio, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "LIMITS", {".png": 2 * 2**20})
    refused = client.post("/studio/drop", params={"name": "x.exe"}, content=b"MZ")
    assert (refused.status_code, "is no clip" in refused.json()["detail"]) == (422, True)
    # Without a declared length, so that only counting helps.
    endless = (bytes(2**20) for _ in range(10))
    answer = client.post("/studio/drop", params={"name": "x.png"}, content=endless)
    assert (answer.status_code, "is larger than 2 MB" in answer.json()["detail"]) == (422, True)
    folder = studio.paths.uploads / "dropped"
    assert not folder.is_dir() or list(folder.iterdir()) == []


def test_nothing_is_told_sent_or_received_before_the_login(studio: Studio, app: Starlette) -> None:
    (clip,) = ids(studio, "A fox")
    lock(app)
    client = TestClient(app)
    for method, path in (("GET", f"clip/{clip}/about.json"), ("POST", "clips.zip"), ("POST", "drop?name=a.png")):
        answer = client.request(method, f"/studio/{path}", content=f"ids={clip}" if method == "POST" else None)
        assert (answer.status_code, "fox" in answer.text) == (401, False), path
    client.cookies.set("access-token-x", "right")
    assert client.get(f"/studio/clip/{clip}/about.json").status_code == 200


@pytest.mark.parametrize(
    ("path", "limit"), [("drop?name=a.mp4", MAX_DROP_SIZE), ("clips.zip", MAX_BODY_SIZE)], ids=["drop", "zip"]
)
def test_a_body_above_the_limit_is_refused_before_it_is_read(client: TestClient, path: str, limit: int) -> None:
    answer = client.post(f"/studio/{path}", content=b"x", headers={"content-length": str(limit + 1)})
    assert answer.status_code == 413


def test_other_pages_cannot_send_files(client: TestClient) -> None:
    headers = {"origin": "https://example.org"}
    assert client.post("/studio/drop", params={"name": "a.png"}, content=b"x", headers=headers).status_code == 403


def test_uploads_together_are_limited(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UploadFolder, "has_room", lambda self, size: False)
    assert client.post("/studio/drop", params={"name": "a.png"}, content=b"x").status_code == 507


def test_a_clip_is_exported_and_what_is_wrong_with_a_request_is_said(studio: Studio, client: TestClient) -> None:
    (clip,) = ids(studio, "A fox")
    still = client.get(f"/studio/clip/{clip}/export.png?frame=3")
    assert (still.status_code, still.headers["content-type"]) == (200, "image/png")
    assert "A_fox" in still.headers["content-disposition"]
    assert client.get(f"/studio/clip/{clip}/export.wav").content.startswith(b"RIFF")
    assert client.get(f"/studio/clip/{clip}/export.gif?side=32").content.startswith(b"GIF89a")
    for asked, reason in (("png?frame=99", "frames 0 to 11"), ("png?frame=x", "whole number"), ("gif?side=1", "16 to")):
        refused = client.get(f"/studio/clip/{clip}/export.{asked}")
        assert refused.status_code == 400
        assert reason in refused.text
    bundle = client.get(f"/studio/clip/{clip}/export.zip")
    assert "A_fox_64x96_100.zip" in bundle.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(bundle.content)) as archive:
        assert [Path(name).suffix for name in archive.namelist()] == [".csv", ".mp4"]
        assert b"A fox" in archive.read(TABLE)
    assert client.get(f"/studio/clip/{'0' * 32}/export.zip").status_code == 404
    assert client.get("/studio/job/none/export.zip").status_code == 404
    assert client.get(f"/studio/clip/{clip}/export.exe").status_code == 404
    assert client.get(f"/studio/clip/{'0' * 32}/export.wav").status_code == 404
