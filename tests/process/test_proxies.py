"""The page under a path of a reverse proxy, and in a temporary folder in which another user's Gradio has been."""

import http.client
import http.server
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import needs_browser, new_page, show
from PIL import Image
from studio_app import Application, running

import app
from ovi_studio.queue.paths import StudioPaths

PREFIX = "/ovi"
_OF_THIS_HOP = ("connection", "transfer-encoding", "keep-alive")


@dataclass(frozen=True)
class Proxied:
    application: Application
    url: str
    requested: list[str]
    """The paths that were requested from the proxy outside the prefix."""


def proxy_of(port: int, outside: list[str]) -> http.server.ThreadingHTTPServer:
    """A reverse proxy that serves a port under `PREFIX`, without the prefix, and streams the answers."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def forward(self) -> None:
            if not self.path.startswith(f"{PREFIX}/"):
                if self.path != "/favicon.ico":  # a habit of browsers
                    outside.append(self.path)
                self.send_error(404)
                return
            upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            upstream.request(self.command, self.path.removeprefix(PREFIX), body or None, dict(self.headers))
            answer = upstream.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _OF_THIS_HOP:
                    self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            while part := answer.read1():
                self.wfile.write(part)
                self.wfile.flush()
            upstream.close()

        do_GET = do_HEAD = do_POST = forward

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@contextmanager
def behind_proxy(outputs: Path, *more: str, cold: bool = False) -> Iterator[Proxied]:
    with running(outputs, "--root-path", PREFIX, *more, cold=cold) as found:
        outside: list[str] = []
        server = proxy_of(found.port, outside)
        yield Proxied(found, f"http://127.0.0.1:{server.server_port}{PREFIX}/", outside)
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    folder = tmp_path_factory.mktemp("proxied")
    (folder / "tmp").mkdir()
    # What belongs to somebody else cannot be written to either.
    (folder / "tmp" / "gradio").write_text("another user's")
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:  # for this process alone: others are forked by one that lives on
            patch.setenv("TMPDIR", str(folder / "tmp"))
            # Where temporary files go is decided when the libraries are imported.
            found = stack.enter_context(behind_proxy(folder / "outputs", cold=True))
        yield found


def picture(folder: Path) -> Path:
    path = folder / "frame.png"
    Image.fromarray(np.full((64, 48, 3), 99, np.uint8)).save(path)
    return path


def test_the_api_works_under_the_path(proxied: Proxied, tmp_path: Path) -> None:
    from gradio_client import Client, handle_file

    client = Client(proxied.url, verbose=False, ssl_verify=False)
    first = handle_file(picture(tmp_path))
    (job,) = client.predict("a clip", picture=first, settings={"steps": 2}, api_name="/queue")["jobs"]
    assert list(client.submit(job, api_name="/wait"))[-1]["state"] == "done"
    clip = Path(client.predict(job, api_name="/clip")).read_bytes()
    with urllib.request.urlopen(f"{proxied.url}studio/job/{job}/clip.mp4", timeout=30) as answer:
        assert answer.read() == clip
    assert proxied.requested == []


@needs_browser
def test_the_page_works_under_the_path(proxied: Proxied, chromium: Any, tmp_path: Path) -> None:
    page = new_page(chromium, proxied.url)
    failed: list[str] = []
    page.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
    page.wait_for_selector("#generate")
    page.fill("#prompt textarea", "a clip")
    page.set_input_files("#first-frame input[type=file]", str(picture(tmp_path)))
    page.wait_for_selector("#first-frame img")
    page.click("#generate")
    page.wait_for_selector("#notice >> text=1 clip is in the queue")
    page.wait_for_selector("#clip video")
    assert page.locator("#clip video").evaluate("video => video.src").startswith(f"{proxied.url}studio/job/")
    show(page, "Library")
    page.wait_for_selector("#wall img")
    page.close()
    assert failed == []
    assert proxied.requested == []


def test_pages_of_others_stay_foreign_under_the_path(proxied: Proxied) -> None:
    def ask(origin: str) -> int:
        request = urllib.request.Request(f"{proxied.url}config", headers={"Origin": origin})
        return urllib.request.urlopen(request, timeout=30).status

    assert ask(proxied.url.removesuffix(f"{PREFIX}/")) == 200
    with pytest.raises(urllib.error.HTTPError, match="403"):
        ask("http://evil.example")


def test_the_login_works_under_the_path(tmp_path: Path) -> None:
    with behind_proxy(tmp_path / "outputs", "--login", "studio:right horse") as found:
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        with pytest.raises(urllib.error.HTTPError, match="401"):
            opener.open(f"{found.url}config", timeout=30)
        with pytest.raises(urllib.error.HTTPError, match="401"):
            opener.open(f"{found.url}gradio_api/call/list", b'{"data": []}', timeout=30)
        opener.open(f"{found.url}login", b"username=studio&password=right+horse", timeout=30).close()
        assert opener.open(f"{found.url}config", timeout=30).status == 200


def test_nothing_is_written_to_the_temporary_folder_of_gradio(proxied: Proxied) -> None:
    folder = proxied.application.outputs.parent / "tmp"
    assert [path.name for path in folder.iterdir() if "gradio" in path.name] == ["gradio"]
    uploads = StudioPaths.of(proxied.application.outputs).uploads
    assert list(uploads.rglob("frame.png"))


@pytest.mark.parametrize(
    ("given", "path"), [("/ovi", "/ovi"), ("ovi/", "/ovi"), ("/a/b-c/", "/a/b-c"), ("/", ""), ("", "")]
)
def test_the_path_may_be_given_with_or_without_slashes(given: str, path: str) -> None:
    assert app.parse_arguments(["--root-path", given]).root_path == path


@pytest.mark.parametrize("given", ["https://example.org/ovi", "/a b", "/../x", "/a?b"])
def test_what_is_no_path_is_refused(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        app.parse_arguments(["--root-path", given])
    assert "is not a path such as /ovi" in capsys.readouterr().err
