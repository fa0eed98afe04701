"""The API, with `gradio_client` against the real application and fake models."""

import json
import re
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import wait_for
from PIL import Image
from places import ROOT
from studio_app import Application

from ovi_studio.media.clip_files import read_record

DOCS = ROOT / "docs" / "api.md"
HOSTILE = "<script>alert(1)</script> ../../etc/passwd \\{\\}"


@pytest.fixture(scope="module")
def client(application: Application) -> Any:
    return application.client()


def queue(client: Any, prompt: str, **more: Any) -> list[str]:
    more["settings"] = {"steps": 2} | more.get("settings", {})
    return client.predict(prompt, **more, api_name="/queue")["jobs"]


def wait(client: Any, job: str) -> dict[str, Any]:
    return list(client.submit(job, api_name="/wait"))[-1]


def test_the_example_in_the_documentation_works(application: Application, capsys: pytest.CaptureFixture) -> None:
    example = re.search(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)[1]
    exec(example.replace("http://127.0.0.1:7860", application.url))
    shown = capsys.readouterr().out
    assert "done None" in shown
    saved = Path(re.search(r"saved (.*)", shown)[1])
    assert read_record(saved)["spec"]["prompt"].startswith("A blue ball")
    assert read_record(saved)["spec"]["seed"] == 7


def test_exactly_the_documented_endpoints_exist(client: Any) -> None:
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    documented = set(re.findall(r"^\| `(/\w+)`", DOCS.read_text(encoding="utf-8"), re.MULTILINE))
    assert set(endpoints) == documented
    for endpoint in endpoints.values():
        assert all(parameter["parameter_has_default"] for parameter in endpoint["parameters"])


def test_a_picture_is_uploaded_and_goes_into_the_clip(client: Any, tmp_path: Path) -> None:
    from gradio_client import handle_file

    Image.fromarray(np.full((64, 48, 3), 99, np.uint8)).save(tmp_path / "frame.png")
    (job,) = queue(client, "the picture moves", picture=handle_file(tmp_path / "frame.png"))
    assert wait(client, job)["spec"]["image"] is True


@pytest.mark.parametrize("meta", [{}, {"meta": {"_type": "gradio.FileData"}}])
def test_a_path_of_the_server_is_not_accepted_as_a_picture(
    application: Application, client: Any, tmp_path: Path, meta: dict[str, Any]
) -> None:
    # Without `gradio_client`, which would upload the file.
    Image.fromarray(np.zeros((64, 48, 3), np.uint8)).save(tmp_path / "private.png")
    before = client.predict(api_name="/list")
    given = ["steal", "", {"path": str(tmp_path / "private.png"), **meta}, {}, 1, ""]
    call = urllib.request.Request(
        f"{application.url}gradio_api/call/queue",
        json.dumps({"data": given}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(call) as answer:
        event = json.load(answer)["event_id"]
    assert b"event: error" in application.get(f"gradio_api/call/queue/{event}")
    assert client.predict(api_name="/list") == before


def test_waiting_shows_progress_and_disconnecting_stops_no_job(application: Application, client: Any) -> None:
    (job,) = queue(client, "wait a little", settings={"steps": 40})
    leaving = application.client()
    steps = []
    for facts in leaving.submit(job, api_name="/wait"):
        steps.append(facts["step"])
        if facts["step"] > 3:
            break
    leaving.close()
    assert steps == sorted(steps)
    found = wait(client, job)
    assert found["state"] == "done"
    assert found["step"] == 0
    assert Path(client.predict(job, api_name="/clip")).is_file()


def test_a_running_job_is_cancelled_and_retried(client: Any) -> None:
    (job,) = queue(client, "wait long", settings={"steps": 400})
    wait_for(lambda: client.predict("running", api_name="/list"))
    assert client.predict([job], api_name="/cancel") == {"cancelled": 1}
    assert wait(client, job)["state"] == "cancelled"
    with pytest.raises(Exception, match="it has no clip"):
        client.predict(job, api_name="/clip")
    assert client.predict([job], api_name="/retry") == {"queued": 1}
    assert client.predict(job, api_name="/cancel") == {"cancelled": 1}


def test_a_failed_job_says_why(client: Any) -> None:
    (job,) = queue(client, "refuse this")
    assert wait(client, job)["error"] == "This cannot be done; try something else."


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"prompt": ""}, "The prompt is empty"),
        ({"prompt": "a", "variant": "../x"}, "There is no model variant"),
        ({"prompt": "a", "settings": {"image": "/etc/passwd"}}, "pass it as its own parameter"),
        ({"prompt": "a", "settings": {"nonsense": 1}}, "Unknown setting"),
        ({"prompt": "a", "settings": {"seed": "x"}}, "value for seed"),
        ({"prompt": "a", "count": 20_000}, "the maximum is"),
        ({"prompt": "{a", "settings": {}}, "brace"),
        ({"prompt": "a" * 5000}, "shorten|characters"),
    ],
)
def test_an_invalid_request_is_refused_with_a_message(client: Any, values: dict[str, Any], sentence: str) -> None:
    before = client.predict(api_name="/list")
    with pytest.raises(Exception, match=sentence):
        client.predict(**values, api_name="/queue")
    assert client.predict(api_name="/list") == before


@pytest.mark.parametrize(
    ("endpoint", "values", "sentence"),
    [
        ("/queue", ["a clip", "", None, {}, "three", "", 0], "'three' is not a valid value for count"),
        ("/queue", ["a clip", "", None, {}, 0, "", 0], "count must be 1 or more, not 0"),
        ("/queue", ["a clip", "", None, {}, 1.5, "", 0], "'1.5' is not a valid value for count"),
        ("/queue", ["a clip", "", None, [1], 1, "", 0], "The settings must be an object"),
        ("/queue", ["a clip", "", None, {"seed": -2}, 1, "", 0], "seed must be between"),
        ("/queue", ["a clip \ud800", "", None, {}, 1, "", 0], "prompt"),
        ("/grid", ["a clip", "colour", [1, 2]], "cannot have the axis 'colour'; choose one of seed, steps"),
        ("/grid", ["a clip", "", [1, 2]], "cannot have the axis ''"),
        ("/grid", ["a clip", "steps", [3]], "Steps has 1 value; give two or more"),
        ("/grid", ["a clip", "steps", []], "Steps has no value"),
        ("/grid", ["a clip", "steps", [3, 3]], "has the value 3 twice"),
        ("/grid", ["a clip", "steps", ["\ud800", 3]], "not a valid value for steps"),
        ("/grid", ["a clip", "steps", [True, 3]], "across_values must be a list of numbers or texts"),
        ("/grid", ["a clip", "steps", {"a": 1}], "across_values must be a list of numbers or texts"),
        ("/grid", ["a clip", "seed", ["11 random"], "steps", [*range(1, 11)]], "That grid has 110 clips"),
        ("/grid", ["a clip", "steps", [1, 2], "steps", [3, 4]], "both set steps"),
        ("/grid", ["a {red|blue} clip", "steps", [1, 2]], "A grid is made of one clip"),
        ("/grid", ["a clip", "steps", [1, 2], "", [], "", None, {"seed": "x"}], "not a valid value for seed"),
        ("/list", ["", "first", 10], "'first' is not a valid value for offset"),
        ("/list", ["", 0, -1], "0 or more"),
        ("/list", ["someday", 0, 10], "Unknown state 'someday'"),
        ("/cancel", [5], "Pass the id of a job"),
        ("/cancel", [["\ud800"]], "Pass the id of a job"),
        ("/retry", [[None]], "Pass the id of a job"),
        ("/wait", ["\ud800"], "Pass the id of a job"),
        ("/clip", ["no such job"], "no longer exists"),
    ],
)
def test_whatever_a_client_sends_is_answered_with_a_sentence(
    application: Application, endpoint: str, values: list[Any], sentence: str
) -> None:
    url = f"{application.url}gradio_api/call{endpoint}"
    if endpoint == "/grid":
        values = [*values, *["", "steps", [1, 2], "", [], "", None, {}, "", 0][len(values) :]]
    request = urllib.request.Request(url, json.dumps({"data": values}).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        event = json.loads(answer.read())["event_id"]
    with urllib.request.urlopen(f"{url}/{event}", timeout=30) as answer:
        said = answer.read().decode()
    assert "event: error" in said
    assert sentence in said
    assert "Traceback" not in said


def test_a_grid_is_one_batch_with_its_jobs_row_by_row(client: Any) -> None:
    answer = client.predict(
        "a ball", "shift", [3, 4.5], "seed", ["7", "2 random"], settings={"steps": 1}, name="shifts", api_name="/grid"
    )
    grid = answer["grid"]
    assert (grid["title"], grid["columns"], grid["row_title"]) == ("Shift", ["3", "4.5"], "Seed")
    assert [job for row in grid["jobs"] for job in row] == answer["jobs"]
    listed = {job["id"]: job for job in client.predict(api_name="/list")}
    made = [[listed[job] for job in row] for row in grid["jobs"]]
    assert [[job["spec"]["shift"] for job in row] for row in made] == [[3, 4.5]] * 3
    assert [[str(job["spec"]["seed"]) for job in row] for row in made] == [[seed] * 2 for seed in grid["rows"]]
    assert {job["batch"] for row in made for job in row} == {"shifts"}


def test_seed_zero_is_a_seed_and_minus_one_is_none(client: Any) -> None:
    queued = [
        client.predict("a clip", settings={"seed": seed, "steps": 1}, api_name="/queue")["jobs"] for seed in (0, -1, -1)
    ]
    seeds = {job["id"]: job["spec"]["seed"] for job in client.predict(api_name="/list")}
    seeds = [seeds[job] for (job,) in queued]
    assert seeds[0] == 0
    assert len(set(seeds)) == 3
    assert min(seeds) == 0


def test_ids_cannot_be_used_as_paths(application: Application, client: Any) -> None:
    for job in ("../../etc/passwd", "", "0" * 10):
        for endpoint in ("/clip", "/wait"):
            with pytest.raises(Exception, match="no longer exists"):
                client.predict(job, api_name=endpoint)
        with pytest.raises(urllib.error.HTTPError):
            application.get(f"studio/job/{urllib.request.quote(job, safe='')}/clip.mp4")
        with pytest.raises(urllib.error.HTTPError):
            application.get(f"studio/clip/{urllib.request.quote(job, safe='')}/poster.jpg")
    assert client.predict([], api_name="/cancel") == {"cancelled": 0}


def test_no_answer_holds_a_path_of_the_machine(application: Application, client: Any) -> None:
    (job,) = queue(client, HOSTILE)
    found = wait(client, job)
    assert found["spec"]["prompt"] == HOSTILE.replace("\\{\\}", "{}")
    assert str(application.outputs.parent) not in str(client.predict(api_name="/list"))


def test_large_requests_are_refused_before_they_are_read(application: Application, client: Any) -> None:
    started = time.monotonic()
    with pytest.raises(Exception, match=r"413|too large|Too Large"):
        client.predict("x" * 20_000_000, api_name="/queue")
    assert time.monotonic() - started < 10


def test_the_media_of_a_job_are_served_by_its_id(application: Application, client: Any) -> None:
    (job,) = queue(client, "a clip")
    name = wait(client, job)["clip"]
    assert application.get(f"studio/job/{job}/clip.mp4") == (application.outputs / name).read_bytes()
    assert application.get(f"studio/job/{job}/picture.jpg")[:2] == b"\xff\xd8"
    request = urllib.request.Request(f"{application.url}studio/job/{job}/clip.mp4", headers={"Range": "bytes=4-7"})
    with urllib.request.urlopen(request) as answer:
        assert (answer.status, answer.read()) == (206, b"ftyp")
    secret = application.outputs / "notes.mp4"
    secret.write_bytes(b"not made by the app")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        application.get(f"gradio_api/file={secret}")


def test_plain_http_works_as_the_openapi_file_describes_it(application: Application) -> None:
    paths = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))["paths"]

    def call(name: str, **parameters: Any) -> Any:
        begin, answer = f"/gradio_api/call/v2/{name}", f"/gradio_api/call/v2/{name}/{{event_id}}"
        assert begin in paths
        assert answer in paths
        body = json.dumps(parameters).encode()
        begun = urllib.request.Request(application.url + begin[1:], body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(begun, timeout=60) as opened:
            event = json.load(opened)["event_id"]
        lines = application.get(answer[1:].format(event_id=event)).decode().splitlines()
        (data,) = json.loads([line for line in lines if line.startswith("data: [")][-1].removeprefix("data: "))
        assert "event: complete" in lines
        return data

    (job,) = call("queue", prompt="a ball over plain HTTP", settings={"steps": 2})["jobs"]
    assert call("wait", job=job)["state"] == "done"
    clip = "/studio/job/{job}/clip.mp4"
    assert clip in paths
    assert application.get(clip[1:].format(job=job))[4:8] == b"ftyp"


def test_without_its_option_mcp_is_not_served(application: Application) -> None:
    asked = urllib.request.Request(f"{application.url}mcp", b"{}", {"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError, match=r"404|405"):
        urllib.request.urlopen(asked, timeout=30)
