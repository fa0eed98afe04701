"""Middleware in front of Gradio's server.

It refuses requests under foreign host names and from foreign pages, reads bodies only after the login and only up to a
limit, and slows down wrong logins. Gradio itself does none of this (6.31): it answers to any name, parses a prompt of
20 MB before it checks the login, and 50 wrong logins take 0.08 s.

After a few wrong logins an address has to wait, twice as long after each further one. The same limit applies to all
addresses together, but never for long, since a stranger could otherwise lock the owner out. For the same reason a
loopback address, which all clients behind a local tunnel or proxy share, never waits for long. An attempt counts as
wrong until it succeeds, so that concurrent attempts do not evade the limit.
"""

import base64
import hmac
import ipaddress
import json
import math
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ovi_studio.media.pictures import MAX_FILE_SIZE
from ovi_studio.services.intake import LIMITS
from ovi_studio.services.upload_folder import UploadFolder
from ovi_studio.web.hosts import Hosts

MAX_BODY_SIZE = 2**20
"""Limit in bytes for requests other than uploads."""
FREE_ATTEMPTS = 4
LONGEST_WAIT = 600.0
"""Longest wait of one address, in seconds."""
FREE_ATTEMPTS_TOTAL = 20
LONGEST_WAIT_TOTAL = 10.0
FORGET_SECONDS = 3600.0
_MAX_ADDRESSES = 10_000
MAX_UPLOAD_SIZE = MAX_FILE_SIZE + 2**16
"""Limit in bytes for an upload: a file and its multipart encoding."""
UPLOAD_PATH = "/gradio_api/upload"
DROP_PATH = "/studio/drop"
MCP_PATH = "/mcp"
METRICS_PATH = "/metrics"
_OF_PROGRAMS = (MCP_PATH, METRICS_PATH)
"""Where programs log in with every request, since they keep no cookie."""
MAX_DROP_SIZE = max(LIMITS.values())
"""Limit in bytes for a dropped file; `Intake` has one for each kind."""
_UPLOADS = {UPLOAD_PATH: MAX_UPLOAD_SIZE, DROP_PATH: MAX_DROP_SIZE}
_NO_FRAMES = [(b"content-security-policy", b"frame-ancestors 'none'"), (b"x-frame-options", b"DENY")]


@dataclass
class _Attempts:
    wrong: int = 0
    last: float = -math.inf

    def wait(self, now: float, free: int, longest: float) -> float:
        """Seconds until the next attempt."""
        if now - self.last > FORGET_SECONDS:
            self.wrong = 0
        if self.wrong < free:
            return 0.0
        # After thirty doublings every wait has reached the longest.
        return max(0.0, self.last + min(2.0 ** min(self.wrong - free, 30), longest) - now)

    def count(self, now: float) -> None:
        self.wrong, self.last = self.wrong + 1, now


class LoginLimit:
    """Limits login attempts. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._addresses: dict[str, _Attempts] = {}
        self._all = _Attempts()

    def attempt(self, address: str) -> float:
        """Return the seconds this address has to wait; 0 allows an attempt, which counts as wrong until `succeeded`."""
        key = _network(address)
        with self._lock:
            now = self._clock()
            own = self._addresses.setdefault(key, _Attempts())
            wait = max(
                own.wait(now, FREE_ATTEMPTS, LONGEST_WAIT_TOTAL if _is_shared(address) else LONGEST_WAIT),
                self._all.wait(now, FREE_ATTEMPTS_TOTAL, LONGEST_WAIT_TOTAL),
            )
            if wait <= 0:
                own.count(now)
                self._all.count(now)
                if len(self._addresses) > _MAX_ADDRESSES:
                    del self._addresses[min(self._addresses, key=lambda name: self._addresses[name].last)]
            return wait

    def succeeded(self, address: str) -> None:
        """Record that the last attempt of this address was right."""
        with self._lock:
            self._addresses.pop(_network(address), None)
            self._all.wrong = max(0, self._all.wrong - 1)


class Guard:
    """ASGI middleware. Checks the host name and the origin, then the login, then the size of the body."""

    def __init__(self, app: ASGIApp, limit: LoginLimit, hosts: Hosts, uploads: UploadFolder) -> None:
        self._app = app
        self._limit = limit
        self._hosts = hosts
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refuse = partial(_refuse, scope, send)
        headers = Headers(scope=scope)
        if not self._hosts.serves(headers.get("host")):
            await refuse(421, "This server does not answer to this name; start it with --allow-host NAME to allow it.")
            return
        if not self._hosts.allows_origin(headers):
            await refuse(403, "Requests from other pages are not allowed.")
            return
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", "")).rstrip("/")
        logging_in = path == "/login" and scope["method"] == "POST"
        if path in _OF_PROGRAMS:
            if (refusal := self._program(Request(scope))) is not None:
                await refuse(*refusal)
                return
        elif _has_body(scope, headers) and not logging_in and not is_logged_in(Request(scope)):
            await refuse(401, "Log in first.")
            return
        limit = _UPLOADS.get(path, MAX_BODY_SIZE)
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()) or int(length) > limit:
            await refuse(413, "This request is too large.")
            return
        if path in _UPLOADS:
            if not self._uploads.has_room(int(length)):
                await refuse(507, "There are too many uploads; try again later, they are deleted after a day.")
                return
        elif headers.get("content-type", "").lower().startswith("multipart/"):
            await refuse(415, "Files cannot be uploaded here.")
            return
        receive = _bounded(receive, limit)
        send = _with_headers(send, on_space=self._hosts.on_space)
        if logging_in:
            await self._log_in(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _program(self, request: Request) -> tuple[int, str, tuple[bytes, bytes]] | None:
        """Return why a program may not pass, which logs in with every request; None if it may."""
        if is_logged_in(request):
            return None
        asked = b"www-authenticate", b'Basic realm="Ovi Studio", charset="UTF-8"'
        credentials = _basic(request.headers.get("authorization", ""))
        if credentials is None:
            return 401, "Log in first, with HTTP Basic.", asked
        address = request.client.host if request.client else ""
        # Nothing can come between the attempt and its end, so that right ones at the same time never wait.
        wait = self._limit.attempt(address)
        if wait > 0:
            return _too_many(wait)
        if not request.app.auth(*credentials):
            return 401, "The login is wrong.", asked
        self._limit.succeeded(address)
        return None

    async def _log_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        address = (scope.get("client") or ("",))[0]
        wait = self._limit.attempt(address)
        if wait > 0:
            await _refuse(scope, send, *_too_many(wait))
            return

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < 400:
                self._limit.succeeded(address)
            await send(message)

        await self._app(scope, receive, watch)


def guard(hosts: Hosts, uploads: UploadFolder) -> Middleware:
    """Return the middleware for `launch(app_kwargs={"middleware": [guard(...)]})`."""
    return Middleware(Guard, limit=LoginLimit(), hosts=hosts, uploads=uploads)


def is_logged_in(request: Request) -> bool:
    """Whether the request is logged in, by the cookie that Gradio's login sets, or the page has no login."""
    app = request.app
    if getattr(app, "auth", None) is None:
        return True
    names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    return any(request.cookies.get(name) in app.tokens for name in names)


def checker(user: str, password: str) -> Callable[[str, str], bool]:
    """Return the check for `launch(auth=...)`, which runs in constant time."""
    expected = user.encode(), password.encode()

    def check(given_user: str, given_password: str) -> bool:
        same_user = hmac.compare_digest(given_user.encode(), expected[0])
        return hmac.compare_digest(given_password.encode(), expected[1]) and same_user

    return check


def make_password() -> str:
    """Generate a password that is easy to read out and hard to guess."""
    return "-".join(secrets.token_hex(2) for _ in range(4))


def _is_shared(address: str) -> bool:
    """Whether unrelated clients may have this address, since they come through a local tunnel or proxy."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return True


def _network(address: str) -> str:
    """Return the /64 network of an IPv6 address, which one client usually has in full; an IPv4 address as it is."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network(f"{parsed}/64", strict=False)) if parsed.version == 6 else address


def _too_many(wait: float) -> tuple[int, str, tuple[bytes, bytes]]:
    seconds = math.ceil(wait)
    return 429, f"Too many wrong logins; try again in {seconds} s.", (b"retry-after", str(seconds).encode())


def _basic(header: str) -> tuple[str, str] | None:
    """Return the user and password of an `Authorization` header; None if it holds none."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except ValueError:
        return None
    return (user, password) if colon else None


def _has_body(scope: Scope, headers: Headers) -> bool:
    return (
        scope["method"] not in ("GET", "HEAD", "OPTIONS")
        or headers.get("content-length", "0") != "0"
        or "transfer-encoding" in headers
    )


def _bounded(receive: Receive, limit: int) -> Receive:
    """Wrap `receive` to disconnect when a body without a declared length grows too large."""
    size = 0

    async def bounded() -> Message:
        nonlocal size
        message = await receive()
        if message["type"] == "http.request":
            size += len(message.get("body", b""))
            if size > limit:
                return {"type": "http.disconnect"}
        return message

    return bounded


def _with_headers(send: Send, *, on_space: bool) -> Send:
    """Wrap `send` so that other pages cannot frame this one or send its cookie; a Space's host page may frame it."""

    async def changed(message: Message) -> None:
        if message["type"] == "http.response.start" and not on_space:
            headers = [
                (name, _same_site(value) if name.lower() == b"set-cookie" else value)
                for name, value in message.get("headers", ())
            ]
            message = {**message, "headers": [*headers, *_NO_FRAMES]}
        await send(message)

    return changed


def _same_site(cookie: bytes) -> bytes:
    parts = [part for part in cookie.split(b";") if not part.strip().lower().startswith(b"samesite=")]
    return b"; ".join([*(part.strip() for part in parts), b"SameSite=Lax"])


async def _refuse(scope: Scope, send: Send, status: int, reason: str, *headers: tuple[bytes, bytes]) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": reason})
        return
    body = json.dumps({"detail": reason}).encode()
    # The unread body may still be arriving, so the connection cannot be reused.
    response_headers = [(b"content-type", b"application/json"), (b"connection", b"close"), *headers]
    await send({"type": "http.response.start", "status": status, "headers": response_headers})
    await send({"type": "http.response.body", "body": body})
