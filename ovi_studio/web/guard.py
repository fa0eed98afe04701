"""What stands before Gradio's server: bodies are bounded, and wrong logins are slowed down.

Gradio itself has neither (6.31): it parses a prompt of 20 MB, and 50 wrong logins take 0.08 s. An address that was
wrong a few times has to wait, twice as long after each further time; so has everybody together, though never for long,
since otherwise a stranger could keep the owner out. An attempt counts as wrong until it was right, so that many
at once are no way around it.
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
"""Bytes of a request that is no upload; uploads have Gradio's `max_file_size`."""
FREE_ATTEMPTS = 4
LONGEST_WAIT = 600.0
"""Seconds that an address waits at most."""
FREE_ATTEMPTS_OF_ALL = 20
LONGEST_WAIT_OF_ALL = 10.0
FORGET_SECONDS = 3600.0
_MAX_ADDRESSES = 10_000
_UPLOADS = ("/gradio_api/upload", "/upload")


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
                own.wait(now, FREE_ATTEMPTS, LONGEST_WAIT),
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
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, limit: LoginLimit) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"].rstrip("/")
        if not path.endswith(_UPLOADS):
            length = dict(scope["headers"]).get(b"content-length", b"0")
            if not length.isdigit() or int(length) > MAX_BODY_SIZE:
                await _answer(send, 413, "This request is too large.")
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
            sentence = f"Too many wrong logins; try again in {seconds} s."
            await _answer(send, 429, sentence, (b"retry-after", str(seconds).encode()))
            return

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < 400:
                self._limit.succeeded(address)
            await send(message)

        await self._app(scope, receive, watch)


def guard() -> Middleware:
    """For `launch(app_kwargs={"middleware": [guard()]})`."""
    return Middleware(Guard, limit=LoginLimit())


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


def _network(address: str) -> str:
    """Who has one IPv6 address has the 2**64 beside it too."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network(f"{parsed}/64", strict=False)) if parsed.version == 6 else address


def _bounded(receive: Receive) -> Receive:
    """A body without a length is cut off when it grows too large."""
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


async def _answer(send: Send, status: int, sentence: str, *headers: tuple[bytes, bytes]) -> None:
    body = f'{{"detail": "{sentence}"}}'.encode()
    kind = (b"content-type", b"application/json")
    await send({"type": "http.response.start", "status": status, "headers": [kind, *headers]})
    await send({"type": "http.response.body", "body": body})
