"""Middleware in front of Gradio's server: limits the size of requests and slows down wrong logins.

Gradio itself has neither (6.31): it parses a prompt of 20 MB, and 50 wrong logins take 0.08 s. After a few wrong logins
an address has to wait, twice as long after each further one. The same limit applies to all addresses together, but
never for long, since a stranger could otherwise lock the owner out. An attempt counts as wrong until it succeeds, so
that concurrent attempts do not evade the limit.
"""

import hmac
import ipaddress
import math
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_SIZE = 2**20
"""Limit in bytes for requests other than uploads, which Gradio's `max_file_size` limits."""
FREE_ATTEMPTS = 4
LONGEST_WAIT = 600.0
"""Longest wait of one address, in seconds."""
FREE_ATTEMPTS_TOTAL = 20
LONGEST_WAIT_TOTAL = 10.0
FORGET_SECONDS = 3600.0
_MAX_ADDRESSES = 10_000
_UPLOADS = ("/gradio_api/upload", "/upload")


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
                own.wait(now, FREE_ATTEMPTS, LONGEST_WAIT),
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
    """ASGI middleware with both limits."""

    def __init__(self, app: ASGIApp, limit: LoginLimit) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"].rstrip("/")
        if not path.endswith(_UPLOADS):
            length = dict(scope["headers"]).get(b"content-length", b"0")
            if not length.isdigit() or int(length) > MAX_BODY_SIZE:
                await _respond(send, 413, "This request is too large.")
                return
            receive = _bounded(receive)
        if path.endswith("/login") and scope["method"] == "POST":
            await self._log_in(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _log_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        address = (scope.get("client") or ("",))[0]
        wait = self._limit.attempt(address)
        if wait > 0:
            seconds = math.ceil(wait)
            message_text = f"Too many wrong logins; try again in {seconds} s."
            await _respond(send, 429, message_text, (b"retry-after", str(seconds).encode()))
            return

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < 400:
                self._limit.succeeded(address)
            await send(message)

        await self._app(scope, receive, watch)


def guard() -> Middleware:
    """Return the middleware for `launch(app_kwargs={"middleware": [guard()]})`."""
    return Middleware(Guard, limit=LoginLimit())


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


def _network(address: str) -> str:
    """Return the /64 network of an IPv6 address, which one client usually has in full; an IPv4 address as it is."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network(f"{parsed}/64", strict=False)) if parsed.version == 6 else address


def _bounded(receive: Receive) -> Receive:
    """Wrap `receive` to disconnect when a body without a declared length grows too large."""
    size = 0

    async def bounded() -> Message:
        nonlocal size
        message = await receive()
        if message["type"] == "http.request":
            size += len(message.get("body", b""))
            if size > MAX_BODY_SIZE:
                return {"type": "http.disconnect"}
        return message

    return bounded


async def _respond(send: Send, status: int, message_text: str, *headers: tuple[bytes, bytes]) -> None:
    body = f'{{"detail": "{message_text}"}}'.encode()
    kind = (b"content-type", b"application/json")
    await send({"type": "http.response.start", "status": status, "headers": [kind, *headers]})
    await send({"type": "http.response.body", "body": body})
