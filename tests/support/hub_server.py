"""A hub for tests: serves a folder tree as `/{repository}/resolve/{revision}/{path}` on 127.0.0.1, and lists it.

Speaks what a download needs of the hub's protocol: HEAD and GET, ranges, and the headers that name commit, size and
content. It can break connections, stall, refuse, ignore ranges, lead to another host, and leave out what the hub says,
as mirrors do; and it records what was asked.
"""

import hashlib
import json
import re
import socket
import struct
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import unquote

COMMIT = "c0ffee" * 6 + "c0ff"
_CHUNK = 16_384


@dataclass(frozen=True)
class Request:
    """One request as it arrived; `file` is `repository/path`."""

    method: str
    file: str
    range: str | None
    token: str | None
    host: str


@dataclass
class Faults:
    """What goes wrong; everything off."""

    break_after: int = 0
    """Bytes of an answer after which the connection is closed, as long as there are `breaks` left."""
    breaks: int = 0
    reset: bool = False
    """Break by a reset (as a router does) instead of an orderly end."""
    stall_after: int = 0
    """Bytes after which an answer waits for `HubServer.release`."""
    status: int = 0
    """Answer everything with this status instead."""
    status_of: dict[str, int] = field(default_factory=dict)
    """The same for single files, by `repository/path`."""
    ignores_ranges: bool = False
    redirects: bool = False
    """Send large files from another host name, as the hub does."""
    redirect_status: int = 302
    redirects_here: bool = False
    """Redirect to a relative address."""
    refuses_head: int = 0
    """Answer HEAD with this status, on the other host alone if there are redirects."""
    length: str = "announced"
    """Or "chunked", or "closed": the end of the connection is the end of the file."""
    etag: str | None = None
    """Instead of the file's own; empty: none."""
    retry_after: str = ""
    web_page: bool = False
    """Answer everything with a login page."""
    corrupts: bool = False
    """Send other bytes than were announced."""
    anonymous: bool = False
    """Leave out the hub's own headers, as a mirror does."""


class HubServer:
    """Serves `root / repository / path` while it is entered.

    A `.json` counts as a small file (its ETag is git's hash), everything else as a large one (its ETag is the SHA-256).
    """

    def __init__(self, root: Path, prefix: str = "") -> None:
        self.root = root
        self.prefix = prefix
        """Path of the hub on its host, such as "/huggingface"."""
        self.faults = Faults()
        self.requests: list[Request] = []
        self.stalled = threading.Event()
        """Set when an answer waits."""
        self.release = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.prefix}"

    @property
    def port(self) -> int:
        return self._server.server_port

    def gets(self) -> list[Request]:
        """The requests for content, without those that a redirect answered."""
        return [request for request in self.requests if request.method == "GET"]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()


def _is_large(file: str) -> bool:
    return not file.endswith(".json")


def _git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _handler_of(hub: HubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self, *, with_body: bool) -> None:
            if listed := re.fullmatch(rf"{hub.prefix}/api/models/([^?]+)\?blobs=true", unquote(self.path)):
                self._list(listed[1])
                return
            address = re.fullmatch(rf"(/cdn)?{hub.prefix}/(.+?)/resolve/[^/]+/(.+)", unquote(self.path))
            file = f"{address[2]}/{address[3]}" if address else self.path
            on_cdn = address is not None and address[1] is not None
            status = hub.faults.status_of.get(file, hub.faults.status)
            source = hub.root / file
            redirected = hub.faults.redirects and not on_cdn and _is_large(file)
            if not with_body and on_cdn == hub.faults.redirects:
                status = status or hub.faults.refuses_head
            if not (redirected and with_body):
                asked, token = self.headers.get("Range"), self.headers.get("Authorization")
                hub.requests.append(Request(self.command, file, asked, token, self.headers["Host"].split(":")[0]))
            if hub.faults.web_page:
                self._log_in(with_body=with_body)
            elif status or address is None or not source.is_file():
                self._refuse(status or 404)
            elif redirected:
                self._redirect(source.read_bytes())
            else:
                self._serve(source.read_bytes(), with_body=with_body)

        def _list(self, repository: str) -> None:
            hub.requests.append(Request("LIST", repository, None, self.headers.get("Authorization"), ""))
            root = hub.root / repository
            if status := hub.faults.status_of.get(repository, 0 if root.is_dir() else 404):
                self._refuse(status)
                return
            paths = sorted(path for path in root.rglob("*") if path.is_file())
            files = [{"rfilename": path.relative_to(root).as_posix(), "size": path.stat().st_size} for path in paths]
            answer = {
                "siblings": files,
                "cardData": {"license": "other", "license_name": "own-licence"},
                "gated": "auto",
            }
            content = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _log_in(self, *, with_body: bool) -> None:
            page = b"<!DOCTYPE html><html><title>Log in</title></html>"
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            if with_body:
                self.wfile.write(page)

        def _refuse(self, status: int) -> None:
            self.send_response(status)
            if hub.faults.retry_after:
                self.send_header("Retry-After", hub.faults.retry_after)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _redirect(self, content: bytes) -> None:
            self.send_response(hub.faults.redirect_status)
            host = "" if hub.faults.redirects_here else f"http://localhost:{hub.port}"
            self.send_header("Location", f"{host}/cdn{self.path}")
            self._describe(content)
            # Mirrors send a page along.
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _describe(self, content: bytes) -> None:
            large = _is_large(self.path)
            etag = f'"{hashlib.sha256(content).hexdigest() if large else _git_hash(content)}"'
            if not hub.faults.anonymous:
                self.send_header("X-Repo-Commit", COMMIT)
            if large and not hub.faults.anonymous:
                self.send_header("X-Linked-Size", str(len(content)))
                self.send_header("X-Linked-Etag", etag)
            if etag := etag if hub.faults.etag is None else hub.faults.etag:
                self.send_header("ETag", etag)

        def _serve(self, content: bytes, *, with_body: bool) -> None:
            faults = hub.faults
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            ranged = asked is not None and not faults.ignores_ranges
            start = int(asked[1]) if asked and ranged else 0
            if start >= len(content):
                self._refuse(416)
                return
            end = int(asked[2]) + 1 if asked and ranged and asked[2] else len(content)
            self.send_response(206 if ranged else 200)
            self._describe(content)
            if ranged:
                total = len(content) if faults.length == "announced" else "*"
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{total}")
            if faults.corrupts:
                content = content[:-1] + bytes([content[-1] ^ 1])
            body = content[start:end]
            if not faults.ignores_ranges:
                self.send_header("Accept-Ranges", "bytes")
            if faults.length == "announced":
                self.send_header("Content-Length", str(len(body)))
            elif faults.length == "chunked":
                self.send_header("Transfer-Encoding", "chunked")
            else:
                self.send_header("Connection", "close")
            self.end_headers()
            if with_body:
                self._send(body)

        def _send(self, body: bytes) -> None:
            faults = hub.faults
            breaking = faults.breaks > 0 and len(body) > faults.break_after
            end = faults.break_after if breaking else len(body)
            sent = 0
            try:
                while sent < end:
                    if faults.stall_after and sent >= faults.stall_after and not hub.release.is_set():
                        hub.stalled.set()
                        hub.release.wait()
                    sent += self._send_chunk(body[sent : min(sent + _CHUNK, end)])
                if faults.length == "chunked" and not breaking:
                    self.connection.sendall(b"0\r\n\r\n")
            except OSError:  # the client is gone, as some tests want it
                self.close_connection = True
                return
            if breaking:
                faults.breaks -= 1
                if faults.reset:
                    # A linger time of 0 turns the close into a reset; detached, or the server would say goodbye first.
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    socket.close(self.connection.detach())
                self.close_connection = True

        def _send_chunk(self, chunk: bytes) -> int:
            if hub.faults.length != "chunked":
                return self.connection.send(chunk)
            self.connection.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            return len(chunk)

    return Handler
