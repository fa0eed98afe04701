"""Who gets in: names, pages and bodies that are not ours, against the real application."""

import http.client
import http.server
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from browser import like, needs_browser
from studio_app import Application, running

from ovi_studio.services.upload_folder import UploadFolder
from ovi_studio.web.guard import MAX_BODY_SIZE, MAX_UPLOAD_SIZE
from ovi_studio.web.hosts import Hosts

LOGIN = ("studio", "right horse")


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    with running(tmp_path_factory.mktemp("locked") / "outputs", "--login", ":".join(LOGIN)) as found:
        yield found


def ask(
    application: Application, method: str, path: str, body: bytes | None = None, **headers: str
) -> http.client.HTTPResponse:
    """An answer, read; `headers` with underscores for hyphens."""
    connection = http.client.HTTPConnection("127.0.0.1", application.port, timeout=60)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, named)
    answer = connection.getresponse()
    answer.text = answer.read().decode()
    return answer


def send_head(application: Application, path: str, length: int) -> str:
    """The first line of the answer to a request whose body never comes."""
    with socket.create_connection(("127.0.0.1", application.port), timeout=30) as connection:
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode())
        return connection.recv(100).decode().splitlines()[0]


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/upload",
        "/gradio_api/run/upload",
        "/gradio_api/call/upload",
        "/gradio_api/stream/upload",
        "/gradio_api/queue/join",
        "/upload",
        "/gradio_api/upload/../run/predict",
    ],
)
def test_no_body_is_read_before_the_login(locked: Application, path: str) -> None:
    # The answer comes although nothing of the body was sent.
    assert " 401 " in send_head(locked, path, 1000)


def test_half_a_gigabyte_without_a_login_takes_no_memory(locked: Application) -> None:
    process = psutil.Process(locked.process.pid)
    before = process.memory_info().rss
    for path in ("/gradio_api/run/upload", "/gradio_api/upload"):
        with socket.create_connection(("127.0.0.1", locked.port), timeout=30) as connection:
            head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {500 * 2**20}\r\n\r\n"
            connection.sendall(head.encode())
            try:
                for _ in range(500):
                    connection.sendall(b"x" * 2**20)
            except OSError:
                pass  # it was hung up on
    assert process.memory_info().rss - before < 50 * 2**20


@pytest.mark.parametrize("path", ["/gradio_api/run/upload", "/gradio_api/call/upload", "/gradio_api/queue/join"])
def test_a_large_body_is_refused_by_its_length_and_one_without_a_length_is_cut_off(
    application: Application, path: str
) -> None:
    assert " 413 " in send_head(application, path, MAX_BODY_SIZE + 1)
    connection = http.client.HTTPConnection("127.0.0.1", application.port, timeout=60)
    try:
        connection.request("POST", path, (b"[" * 2**18 for _ in range(40)), {"Content-Type": "application/json"})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException):
        status = None  # hung up on
    assert status is None or status >= 400


def test_an_upload_is_bounded_and_no_other_route_takes_files(application: Application) -> None:
    assert " 413 " in send_head(application, "/gradio_api/upload", MAX_UPLOAD_SIZE + 1)
    kind = "multipart/form-data; boundary=x"
    assert ask(application, "POST", "/gradio_api/run/queue", b"--x--", Content_Type=kind).status == 415


@pytest.mark.parametrize("depth", [1000, 100_000])
def test_a_body_that_is_nested_too_deep_is_an_error_of_the_client(application: Application, depth: int) -> None:
    body = b'{"data": ' + b"[" * depth + b"]" * depth + b"}"
    answer = ask(application, "POST", "/gradio_api/call/queue", body, Content_Type="application/json")
    assert answer.status >= 400
    assert "Traceback" not in answer.text
    assert application.answers()


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7860", "localhost.evil.example", "10.0.0.7", "", "[::2"]
)
def test_a_name_that_is_not_ours_is_not_served(application: Application, host: str) -> None:
    for method, path in (("GET", "/"), ("GET", "/config"), ("POST", "/gradio_api/call/list")):
        assert ask(application, method, path, Host=host).status in (400, 421)


ORIGINS = ["http://evil.example", "null", "http://localhost:3000", "http://127.0.0.1", "http://[", "x", ""]


@pytest.mark.parametrize("origin", ORIGINS)
def test_a_page_that_is_not_ours_reads_and_changes_nothing(application: Application, origin: str) -> None:
    body = json.dumps({"data": ["a clip"]}).encode()
    for method, path in (("GET", "/config"), ("GET", "/studio/pulse"), ("POST", "/gradio_api/call/queue")):
        answer = ask(application, method, path, body if method == "POST" else None, Origin=origin)
        assert answer.status == 403
        assert json.loads(answer.text) == {"detail": "Requests from other pages are not allowed."}


def test_a_page_of_ours_is_answered_and_no_other_may_frame_it(application: Application) -> None:
    own = f"http://127.0.0.1:{application.port}"
    answer = ask(application, "GET", "/config", Host=f"127.0.0.1:{application.port}", Origin=own)
    assert answer.status == 200
    assert "frame-ancestors 'none'" in answer.getheader("content-security-policy")
    followed = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert ask(application, "GET", "/", **followed).status == 200
    assert ask(application, "GET", "/", **followed | {"Sec_Fetch_Dest": "iframe"}).status == 403
    assert ask(application, "GET", "/studio/pulse", Sec_Fetch_Site="same-site", Sec_Fetch_Mode="no-cors").status == 403


def test_the_cookie_of_a_login_stays_on_this_site(locked: Application) -> None:
    form = b"username=studio&password=right+horse"
    answer = ask(locked, "POST", "/login", form, Content_Type="application/x-www-form-urlencoded")
    assert answer.status == 200
    cookies = [value for name, value in answer.getheaders() if name.lower() == "set-cookie"]
    assert len(cookies) == 2
    assert all("samesite=lax" in cookie.lower() and "samesite=none" not in cookie.lower() for cookie in cookies)


def test_a_forwarded_address_is_not_believed_from_whoever_is_on_this_machine(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with running(tmp_path_factory.mktemp("forwarded") / "outputs", "--login", ":".join(LOGIN)) as application:
        statuses = [
            ask(
                application,
                "POST",
                "/login",
                b"username=studio&password=wrong",
                Content_Type="application/x-www-form-urlencoded",
                X_Forwarded_For=f"203.0.113.{number}",
            ).status
            for number in range(20)
        ]
    assert statuses.count(429) >= 14


# A browser, started by the test itself: its name server is ours.
_STRANGE_PAGE = b"""<script>
const tried = {};
const done = (async () => {
  const data = { method: "POST", body: JSON.stringify({ data: ["a clip"] }) };
  const wishes = {
    config: {},
    "gradio_api/call/queue": { ...data, headers: { "content-type": "application/json" } },
    "gradio_api/call/queue?simple": { ...data, mode: "no-cors" },
  };
  for (const [path, options] of Object.entries(wishes)) {
    try {
      const answer = await fetch(location.hash.slice(1) + path, options);
      tried[path] = answer.ok ? await answer.text() : answer.status;
    } catch (error) { tried[path] = "refused"; }
  }
  return tried;
})();
</script>"""


@pytest.fixture
def strange_server() -> Iterator[str]:
    """Another server on this machine, with a page that tries to use ours."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(_STRANGE_PAGE)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://localhost:{server.server_port}/"
    server.shutdown()
    server.server_close()


@needs_browser
def test_in_a_browser_no_strange_page_reads_or_queues(
    application: Application, client: object, chromium: object, strange_server: str
) -> None:
    page = chromium.new_page()
    page.goto(f"{strange_server}#{application.url}")
    tried = page.evaluate("done")
    page.close()
    assert len(tried) == 3
    assert set(tried.values()) <= {"refused", 403, 0}
    assert client.predict(api_name="/list") == []


@needs_browser
def test_in_a_browser_a_name_that_was_rebound_to_this_machine_is_shown_nothing(
    application: Application, chromium: object
) -> None:
    browser = like(chromium, "--host-resolver-rules=MAP rebound.example 127.0.0.1")
    page = browser.new_page()
    answer = page.goto(f"http://rebound.example:{application.port}/")
    assert answer.status == 421
    assert "does not answer to this name" in page.content()
    assert page.evaluate("fetch('/config').then((answer) => answer.status)") == 421
    browser.close()


def test_state_and_uploads_are_private(application: Application) -> None:
    state = application.outputs.parent / ".studio" / application.outputs.name
    assert state.stat().st_mode & 0o077 == 0
    assert (state / "uploads").stat().st_mode & 0o077 == 0


def test_uploads_have_a_bound_in_all_and_an_earlier_pages_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    (tmp_path / "uploads" / "old").mkdir(parents=True)
    (tmp_path / "uploads" / "old" / "picture.png").write_bytes(b"x" * 600)
    folder = UploadFolder(tmp_path / "uploads", limit=1000)
    assert folder.has_room(1000)
    (tmp_path / "uploads" / "new.png").write_bytes(b"x" * 600)
    assert folder.has_room(400)
    assert not folder.has_room(401)


@pytest.mark.parametrize(
    ("bound", "allowed", "environ", "served", "refused"),
    [
        ("127.0.0.1", [], {}, ["localhost:7860", "127.0.0.1", "[::1]:7860", "LOCALHOST"], ["192.168.1.5", "ovi.home"]),
        ("127.0.0.1", ["ovi.home"], {}, ["ovi.home", "Ovi.Home:443"], ["evil.ovi.home"]),
        ("0.0.0.0", [], {}, ["192.168.1.5:7860", "[2001:db8::1]"], ["evil.example"]),
        ("192.168.1.5", [], {}, ["192.168.1.5:7860", "localhost"], ["192.168.1.6"]),
        ("0.0.0.0", [], {"SPACE_ID": "a/b", "SPACE_HOST": "a-b.hf.space"}, ["a-b.hf.space"], ["c-d.hf.space"]),
    ],
)
def test_own_names_are_served(
    bound: str, allowed: list[str], environ: dict[str, str], served: list[str], refused: list[str]
) -> None:
    hosts = Hosts(bound, allowed, environ)
    assert [name for name in served if not hosts.serves(name)] == []
    assert [name for name in [*refused, None, "", "[", "a:b:c"] if hosts.serves(name)] == []
    hosts.add("abc.gradio.live")
    assert hosts.serves("abc.gradio.live")
