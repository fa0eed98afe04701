"""What clients learn of errors: a sentence, whatever they send to whichever endpoint or handler of the running page."""

import json
import re
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from places import ROOT
from studio_app import Application, running

from ovi_studio.queue.paths import StudioPaths

MALFORMED: list[Any] = [
    None,
    "",
    "x\nforged",
    "../../etc/passwd",
    -1,
    1e400,
    True,
    [],
    {},
    [[]],
    {"path": "/etc/passwd"},
]
MALFORMED += [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, "\ud800", ["\x00"], {"a": [{}]}, "9" * 400]
_EXCEPTION = re.compile(r"Traceback|\b[A-Z]\w+(?:Error|Exception)\b|File \\?\"")


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    """An application of its own, whose engine and settings may suffer."""
    with running(tmp_path_factory.mktemp("strange") / "outputs") as found:
        yield found


def post(application: Application, path: str, body: Any) -> str:
    """The whole answer to a call, whatever its status."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return send(urllib.request.Request(application.url + path, data, {"Content-Type": "application/json"}))


def send(request: urllib.request.Request) -> str:
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.read().decode()


def call(application: Application, endpoint: str, values: list[Any]) -> str:
    """The answers to a call of the API: to its start, and its events."""
    started = post(application, f"gradio_api/call{endpoint}", {"data": values})
    event = re.search(r'"event_id":\s*"(\w+)"', started)
    return started + (application.get(f"gradio_api/call{endpoint}/{event[1]}").decode() if event else "")


def assert_discreet(application: Application, answer: str, sent: Any) -> None:
    folders = {str(folder) for folder in (application.outputs.parent, ROOT, Path.home(), "/usr/lib", "site-packages")}
    assert not [folder for folder in folders if len(folder) > 1 and folder in answer], (sent, answer[:500])
    assert not _EXCEPTION.search(answer), (sent, answer[:500])


def endpoints(application: Application) -> dict[str, int]:
    """Endpoint -> number of its parameters."""
    info = json.loads(application.get("gradio_api/info"))["named_endpoints"]
    return {name: len(endpoint["parameters"]) for name, endpoint in info.items()}


def test_no_endpoint_answers_with_a_path_or_an_exception(strange: Application) -> None:
    tried = 0
    for endpoint, count in endpoints(strange).items():
        for wrong in MALFORMED:
            values_of_all = [[wrong] * count]
            if endpoint == "/queue" or wrong is MALFORMED[-1]:
                # A clip that could be made but for the rest; and one value too many.
                values_of_all.append(["a clip", *[wrong] * count])
            for values in values_of_all:
                answer = post(strange, f"gradio_api/run{endpoint}", {"data": values})
                assert_discreet(strange, answer, (endpoint, values))
                tried += 1
        # Through the queue, too, as clients do.
        assert_discreet(strange, call(strange, endpoint, [MALFORMED[-1]] * count), endpoint)
        for body in (
            b"",
            b"{",
            b"[]",
            b'{"data": 5}',
            b'{"data": {}}',
            b"\xff\xfe",
            b'{"data": [1], "fn_index": 99999}',
        ):
            for kind in ("call", "run"):
                assert_discreet(strange, post(strange, f"gradio_api/{kind}{endpoint}", body), (endpoint, body))
    assert tried > 150
    assert strange.client().predict(api_name="/list") is not None


def test_no_handler_of_the_page_answers_with_a_traceback_or_an_exception(strange: Application) -> None:
    config = json.loads(strange.get("config"))
    for handler in config["dependencies"]:
        for wrong in (None, "x", -1, [], {"path": "/etc/passwd"}):
            body = {"data": [wrong] * len(handler["inputs"]), "fn_index": handler["id"], "session_hash": "strange"}
            answer = post(strange, "gradio_api/run/predict", {**body, "event_data": wrong})
            assert not _EXCEPTION.search(answer), (handler["api_name"], wrong, answer[:500])
    assert strange.answers()


def test_what_was_not_expected_is_one_sentence_that_names_the_log(strange: Application) -> None:
    answer = json.loads(post(strange, "gradio_api/run/list", {"data": []}))
    assert answer["error"].startswith("The server cannot answer this request;")
    assert "page.log" in answer["error"]
    logged = StudioPaths.of(strange.outputs).page_log.read_text(encoding="utf-8")
    assert "A request cannot be answered" in logged
    assert "Traceback" in logged
    assert "\nforged" not in logged


def test_the_name_of_a_missing_file_is_given_without_its_folder(strange: Application) -> None:
    given = {"adapters": [{"name": "/etc/passwd"}, {"name": "gone"}]}
    for settings in (given, {"accelerators": given["adapters"]}, {"size": "/a/b"}, {"solver": "/a/b/c"}):
        answer = call(strange, "/queue", ["a clip", "", None, settings, 1, "", 0])
        assert "event: error" in answer
        assert_discreet(strange, answer, settings)
        assert tempfile.gettempdir() not in answer


@pytest.mark.parametrize("name", ["a\nforged.png", "a\r\nERROR forged.png", "..\\..\\x.png", "\x1b[2J.png"])
def test_the_name_of_an_upload_forges_no_line_of_a_log(strange: Application, name: str) -> None:
    quoted = name.replace("\r", "%0D").replace("\n", "%0A")
    body = f'--x\r\ncontent-disposition: form-data; name="files"; filename="{quoted}"\r\n\r\nno picture\r\n--x--\r\n'
    request = urllib.request.Request(
        f"{strange.url}gradio_api/upload", body.encode(), {"Content-Type": "multipart/form-data; boundary=x"}
    )
    uploaded = send(request)
    assert not _EXCEPTION.search(uploaded)
    if not uploaded.startswith("["):
        return  # refused
    (path,) = json.loads(uploaded)
    given = {"path": path, "meta": {"_type": "gradio.FileData"}}
    answer = call(strange, "/queue", ["a clip", "", given, {}, 1, "", 0])
    assert "event: error" in answer
    assert_discreet(strange, answer, name)
    logged = StudioPaths.of(strange.outputs).page_log.read_text(encoding="utf-8")
    assert not [line for line in logged.splitlines() if line.startswith(("forged", "ERROR"))]
