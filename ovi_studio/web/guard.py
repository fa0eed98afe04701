"""What stands before Gradio's server: names and pages that are not ours are refused, bodies are read only from who is
logged in and are bounded, and wrong logins are slowed down.

Gradio itself has none of it (6.31): it answers to any name, parses a prompt of 20 MB before it looks at the login,
and 50 wrong logins take 0.08 s. An address that was wrong a few times has to wait, twice as long after each further
time; so has everybody together, though never for long, since otherwise a stranger could keep the owner out. All who
come through a tunnel or a proxy on this machine have its address, which does not wait for long for the same reason.
An attempt counts as wrong until it was right, so that many at once are no way around it.
"""

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
from ovi_studio.web.hosts import Hosts
from ovi_studio.web.upload_folder import UploadFolder

MAX_BODY_SIZE = 2**20
"""Bytes of a request that is no upload."""
FREE_ATTEMPTS = 4
LONGEST_WAIT = 600.0
"""Seconds that an address waits at most."""
FREE_ATTEMPTS_OF_ALL = 20
LONGEST_WAIT_OF_ALL = 10.0
FORGET_SECONDS = 3600.0
_MAX_ADDRESSES = 10_000
MAX_UPLOAD_SIZE = MAX_FILE_SIZE + 2**16
"""Bytes of an upload: a file and what stands around it."""
UPLOAD_PATH = "/gradio_api/upload"
_NO_FRAMES = [(b"content-security-policy", b"frame-ancestors 'none'"), (b"x-frame-options", b"DENY")]


@dataclass
class _Record:
    wrong: int = 0
    last: float = -math.inf

    def wait(self, now: float, free: int, longest: float) -> float:
        """Seconds until the next attempt."""
        if now - self.last > FORGET_SECONDS:
            self.wrong = 0
        if self.wrong < free:
            return 0.0
        # Beyond some thirty doublings every wait is the longest.
        return max(0.0, self.last + min(2.0 ** min(self.wrong - free, 30), longest) - now)

    def count(self, now: float) -> None:
        self.wrong, self.last = self.wrong + 1, now


class LoginLimit:
    """Says who may try to log in. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._addresses: dict[str, _Record] = {}
        self._all = _Record()

    def attempt(self, address: str) -> float:
        """Seconds that this address has to wait; 0: it may try, and that counts as wrong until `succeeded`."""
        key = _network(address)
        with self._lock:
            now = self._clock()
            own = self._addresses.setdefault(key, _Record())
            wait = max(
                own.wait(now, FREE_ATTEMPTS, LONGEST_WAIT_OF_ALL if _is_shared(address) else LONGEST_WAIT),
                self._all.wait(now, FREE_ATTEMPTS_OF_ALL, LONGEST_WAIT_OF_ALL),
            )
            if wait <= 0:
                own.count(now)
                self._all.count(now)
                if len(self._addresses) > _MAX_ADDRESSES:
                    del self._addresses[min(self._addresses, key=lambda name: self._addresses[name].last)]
            return wait

    def succeeded(self, address: str) -> None:
        """The attempt was right."""
        with self._lock:
            self._addresses.pop(_network(address), None)
            self._all.wrong = max(0, self._all.wrong - 1)


class Guard:
    """ASGI middleware. In this order: whose name and page, who is logged in, how large the body is."""

    def __init__(self, app: ASGIApp, limit: LoginLimit, hosts: Hosts, uploads: UploadFolder) -> None:
        self._app = app
        self._limit = limit
        self._hosts = hosts
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refuse = partial(_refuse, scope, send)
        headers = Headers(scope=scope)
        if not self._hosts.serves(headers.get("host")):
            await refuse(421, "This name is not one of this server's; start it with --allow-host NAME if it should be.")
            return
        if not self._hosts.welcomes(headers):
            await refuse(403, "Another page may not do this.")
            return
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", "")).rstrip("/")
        logging_in = path == "/login" and scope["method"] == "POST"
        if _has_body(scope, headers) and not logging_in and not is_logged_in(Request(scope)):
            await refuse(401, "Log in first.")
            return
        limit = MAX_UPLOAD_SIZE if path == UPLOAD_PATH else MAX_BODY_SIZE
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()) or int(length) > limit:
            await refuse(413, "This request is too large.")
            return
        if path == UPLOAD_PATH:
            if not self._uploads.has_room(int(length)):
                await refuse(507, "There are too many uploads; those of yesterday are deleted by themselves.")
                return
        elif headers.get("content-type", "").lower().startswith("multipart/"):
            await refuse(415, "Files are uploaded elsewhere.")
            return
        receive = _bounded(receive, limit)
        send = _with_headers(send, on_space=self._hosts.on_space)
        if logging_in:
            await self._log_in(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _log_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        address = (scope.get("client") or ("",))[0]
        wait = self._limit.attempt(address)
        if wait > 0:
            seconds = math.ceil(wait)
            sentence = f"Too many wrong logins; try again in {seconds} s."
            await _refuse(scope, send, 429, sentence, (b"retry-after", str(seconds).encode()))
            return

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < 400:
                self._limit.succeeded(address)
            await send(message)

        await self._app(scope, receive, watch)


def guard(hosts: Hosts, uploads: UploadFolder) -> Middleware:
    """For `launch(app_kwargs={"middleware": [guard(...)]})`."""
    return Middleware(Guard, limit=LoginLimit(), hosts=hosts, uploads=uploads)


def is_logged_in(request: Request) -> bool:
    """Whether the page is open to who asks, by the cookie that Gradio's login sets."""
    app = request.app
    if getattr(app, "auth", None) is None:
        return True
    names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    return any(request.cookies.get(name) in app.tokens for name in names)


def checker(user: str, password: str) -> Callable[[str, str], bool]:
    """For `launch(auth=...)`; takes the same time whatever is wrong."""
    expected = user.encode(), password.encode()

    def check(given_user: str, given_password: str) -> bool:
        same_user = hmac.compare_digest(given_user.encode(), expected[0])
        return hmac.compare_digest(given_password.encode(), expected[1]) and same_user

    return check


def make_password() -> str:
    """One that can be read out and not be guessed."""
    return "-".join(secrets.token_hex(2) for _ in range(4))


def _is_shared(address: str) -> bool:
    """Whether strangers may have this address: a tunnel or a proxy on this machine brings them all."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return True


def _network(address: str) -> str:
    """Who has one IPv6 address has the 2**64 beside it too."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network(f"{parsed}/64", strict=False)) if parsed.version == 6 else address


def _has_body(scope: Scope, headers: Headers) -> bool:
    return (
        scope["method"] not in ("GET", "HEAD", "OPTIONS")
        or headers.get("content-length", "0") != "0"
        or "transfer-encoding" in headers
    )


def _bounded(receive: Receive, limit: int) -> Receive:
    """A body without a length is cut off when it grows too large."""
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
    """No other page may frame this one or send the login's cookie; a Space is framed by the page of its owner."""

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


async def _refuse(scope: Scope, send: Send, status: int, sentence: str, *headers: tuple[bytes, bytes]) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": sentence})
        return
    body = json.dumps({"detail": sentence}).encode()
    # The body that was not read is still on its way: the connection is of no use any more.
    named = [(b"content-type", b"application/json"), (b"connection", b"close"), *headers]
    await send({"type": "http.response.start", "status": status, "headers": named})
    await send({"type": "http.response.body", "body": body})
