"""Hostile clients, tables and files against the whole application: refused, or shown as text."""

import http.client
import io
import json
import struct
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
from browser import (
    DESKTOP,
    HOSTILE,
    PHONE,
    fits_width,
    is_unharmed,
    needs_browser,
    settle,
    show,
    unanswered,
    wait_for,
)
from page_helpers import open_page
from PIL import Image
from studio_app import Application

from ovi_studio.core.spec import ClipSpec
from ovi_studio.queue.paths import StudioPaths
from ovi_studio.queue.store import Store

SECRET = "the secret of this machine"
ESCAPED = HOSTILE.replace("{", "\\{").replace("}", "\\}")
"""Hostile text for fields where braces are a pattern."""


@pytest.fixture(scope="module")
def secrets(application: Application) -> list[Path]:
    """Files that must not be served: next to the clips, among them, and in the studio's own folder."""
    paths = [application.outputs.parent / "secret.txt", application.outputs / "secret.mp4"]
    paths.append(StudioPaths.of(application.outputs).state / "secret.png")
    for path in paths:
        path.write_text(SECRET, encoding="utf-8")
    return paths


def ask(
    application: Application, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, bytes]:
    """Return the response to a request whose path is sent without normalisation."""
    connection = http.client.HTTPConnection(urlsplit(application.url).netloc, timeout=60)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        if body is not None:
            connection.putheader("content-length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        try:
            return answer.status, answer.read()
        except http.client.IncompleteRead as cut_off:
            return answer.status, cut_off.partial
    except (BrokenPipeError, ConnectionResetError):
        return 413, b"hung up before all of it was sent"
    finally:
        connection.close()


# Paths


def ways_to(path: Path) -> Iterator[str]:
    """Return a path in spellings that are known to bypass path checks."""
    absolute = str(path)
    up = "../" * 12 + absolute.lstrip("/")
    yield from (absolute, f"/{absolute}", up, up.replace("/", "\\"), f"file://{absolute}", f"{absolute}\0.mp4")
    yield from (quote(absolute, safe=""), quote(up, safe=""), quote(quote(up, safe=""), safe=""))
    yield from (up.replace("../", "..%2f"), up.replace("..", "%2e%2e"), up.replace("../", "....//"))


PLACES = (
    "/{}",
    "/studio/job/{}/clip.mp4",
    "/studio/job/{}/poster.jpg",
    "/studio/job/{}/picture.jpg",
    "/studio/job/{}/preview.jpg",
    "/studio/clip/{}/clip.mp4",
    "/studio/clip/{}/poster.jpg",
    "/gradio_api/file={}",
    "/file={}",
    "/gradio_api/file/{}",
    "/gradio_api/stream/{}",
    "/gradio_api/proxy={}",
    "/gradio_api/custom_component/{}",
    "/static/{}",
    "/assets/{}",
    "/svelte/{}",
    "/theme.css?{}",
    "/gradio_api/call/clip/{}",
)

ANSWERED = ("/{}", "/theme.css?{}", "/gradio_api/call/clip/{}")
"""Routes that always respond: with the page, with the stylesheet, or with the stream of an unknown event."""


def test_no_url_serves_a_file_of_the_machine(application: Application, secrets: list[Path]) -> None:
    for secret in secrets:
        for place in PLACES:
            for way in ways_to(secret):
                path = place.format(way.replace("\0", "%00").replace(" ", "%20"))
                status, body = ask(application, "GET", path)
                assert SECRET.encode() not in body, path
                assert status >= 400 or place in ANSWERED, (path, status)


def test_no_handler_takes_a_path_of_the_server(application: Application, secrets: list[Path]) -> None:
    """Pass a file of the server to every handler of the page, private ones included, wherever it expects a file."""
    config = json.loads(ask(application, "GET", "/config")[1])
    kinds = {part["id"]: part["type"] for part in config["components"]}
    values = {part["id"]: part["props"].get("value") for part in config["components"]}
    tried = 0
    for handler in config["dependencies"]:
        files = [part for part in handler["inputs"] if kinds[part] in ("file", "image", "video", "audio")]
        if not files:
            continue
        for secret in secrets:
            for meta in ({}, {"meta": {"_type": "gradio.FileData"}}):
                given = {"path": str(secret), "orig_name": "a.png", **meta}
                data = [given if part in files else values[part] for part in handler["inputs"]]
                call = {"data": data, "fn_index": handler["id"], "session_hash": "hostile"}
                headers = {"content_type": "application/json"}
                _, body = ask(application, "POST", "/gradio_api/run/predict", json.dumps(call).encode(), **headers)
                assert SECRET.encode() not in body
                tried += 1
    assert tried > 10
    assert not leaked(application), "a copy of the secret lies where browsers can fetch it"


def leaked(application: Application) -> list[Path]:
    """Return copies of the secrets in the studio's folders, without the original files."""
    places = [application.outputs, StudioPaths.of(application.outputs).state]
    found = [path for place in places for path in place.rglob("*") if path.is_file() and path.stat().st_size < 10_000]
    return [path for path in found if SECRET.encode() in path.read_bytes() and not path.name.startswith("secret.")]


@pytest.mark.parametrize("name", ["../../../escaped.png", "/tmp/escaped.png", "..\\..\\escaped.png", "a\0b.png"])
def test_the_name_of_an_upload_cannot_be_used_as_a_path(application: Application, name: str) -> None:
    uploads = StudioPaths.of(application.outputs).uploads
    before = elsewhere(application, uploads)
    body = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="'
        + name.encode()
        + b'"\r\n\r\nhello\r\n--x--\r\n'
    )
    status, answer = ask(
        application, "POST", "/gradio_api/upload", body, content_type="multipart/form-data; boundary=x"
    )
    assert elsewhere(application, uploads) == before
    if status == 200:
        (path,) = json.loads(answer)
        assert ".." not in Path(path).parts
        assert Path(path).is_relative_to(uploads)


def elsewhere(application: Application, uploads: Path) -> set[Path]:
    return {path for path in application.outputs.parent.rglob("*") if not path.is_relative_to(uploads)}


# Sizes


@pytest.mark.parametrize("path", ["queue/join", "run/predict", "call/queue", "api/queue", "component_server"])
def test_twenty_megabytes_are_refused_before_they_are_read(application: Application, path: str) -> None:
    body = json.dumps({"data": ["x" * 20_000_000]}).encode()
    status, _ = ask(application, "POST", f"/gradio_api/{path}", body, content_type="application/json")
    assert status == 413
    assert ask(application, "GET", "/config")[0] == 200


# Invalid pictures


def bomb() -> bytes:
    """A PNG of 2.5 gigapixels in a few hundred bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def cut_off() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()[:2000]


NO_PICTURES = {
    "page.png": b"<html><script>alert(1)</script></html>",
    "drawing.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "empty.png": b"",
    "zeros.jpg": bytes(10_000),
    "cut.png": cut_off(),
    "bomb.png": bomb(),
    "script.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
    "clip.png": b"\x00\x00\x00\x18ftypisom" + bytes(200),
    "archive.jpg": b"PK\x03\x04" + bytes(200),
}


@pytest.mark.parametrize("name", NO_PICTURES)
def test_an_invalid_picture_is_refused_with_a_message(
    application: Application, client: Any, tmp_path: Path, name: str
) -> None:
    from gradio_client import handle_file

    (tmp_path / name).write_bytes(NO_PICTURES[name])
    before = client.predict(api_name="/list")
    with pytest.raises(Exception, match=r"picture|first frame") as refused:
        client.predict("a ball", picture=handle_file(tmp_path / name), api_name="/queue")
    assert str(application.outputs.parent) not in str(refused.value)
    assert client.predict(api_name="/list") == before


# Script tags


@needs_browser
def test_user_text_is_shown_as_text_on_every_tab_of_a_desktop_and_of_a_phone(
    application: Application, chromium: Any, client: Any, tmp_path: Path
) -> None:
    with closing(Store.open(application.outputs)) as store:
        # Bypasses every check of the page and the API.
        store.add([ClipSpec(prompt=f"refuse {HOSTILE}", variant="demo", steps=1)], HOSTILE)
        store.add([ClipSpec(prompt=HOSTILE, variant="demo", steps=1)], HOSTILE)
        store.database.add_notice(HOSTILE)
    client.predict(ESCAPED, settings={"steps": 1}, name=HOSTILE, api_name="/queue")
    wait_for(lambda: not client.predict("queued", api_name="/list") and not client.predict("running", api_name="/list"))
    page = open_page(application, chromium)
    waiting = unanswered(page)
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    page.wait_for_selector("#news .news-item >> text=<script>window.pwned=1")
    page.fill("#prompt textarea", f"{ESCAPED} A man says, <S>{ESCAPED}<E>")
    page.click("text=Many clips at once")
    table = tmp_path / "hostile.csv"
    rows = "text_prompt,steps\n" + f'"{ESCAPED.replace(chr(34), chr(34) * 2)}",1\n' + f'good,"{HOSTILE[:60]}"\n'
    table.write_text(rows, encoding="utf-8")
    page.set_input_files("#table input[type=file]", str(table))
    page.wait_for_selector("#table-makes .bad-rows >> text=<script>")
    page.fill("#batch-name input, #batch-name textarea", HOSTILE)
    page.click("#generate")
    page.wait_for_selector("#notice >> text=in the queue as “<script>window.pwned=1")
    for width, height in (DESKTOP, PHONE):
        page.set_viewport_size({"width": width, "height": height})
        for title in page.get_by_role("tab").all_inner_texts():
            show(page, title)
            settle(page, waiting)
            assert is_unharmed(page), title
            assert fits_width(page), title
        show(page, "Queue")
        page.wait_for_selector(".job .prompt >> text=<script>window.pwned=1")
        show(page, "Library")
        page.locator("#wall .poster").first.click()
        page.wait_for_selector("#lightbox .prompt >> text=<script>window.pwned=1")
        page.get_by_role("button", name="Use these settings").click()
        page.wait_for_function("document.querySelector('#prompt textarea').value.includes('<script>window.pwned=1')")
        assert is_unharmed(page)
    page.locator("#news .news-item button").first.click()
    page.wait_for_selector("#news .news-item", state="detached")
    page.close()
