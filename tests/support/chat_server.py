"""A real server on this machine that speaks the chat protocol, and says or does what a test wants."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class ChatServer:
    """Answers in turn; the last one is repeated."""

    answers: list[Any] = field(default_factory=list)
    """A text, or a function that writes the whole response to a handler."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of the requests."""
    keys: list[str] = field(default_factory=list)
    streams: bool = True
    address: str = ""

    def respond(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append(json.loads(handler.rfile.read(int(handler.headers["Content-Length"]))))
        self.keys.append(handler.headers.get("Authorization", ""))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, str):
            (stream if self.streams else whole)(handler, answer)
        else:
            answer(handler)


def stream(handler: BaseHTTPRequestHandler, text: str, reason: str = "stop", pause: float = 0) -> None:
    """Send a text word by word, as servers stream it."""
    start(handler, "text/event-stream")
    pieces = [{"role": "assistant"}, *({"content": f"{word} "} for word in text.split(" "))]
    for piece in pieces:
        send(handler, json.dumps({"choices": [{"delta": piece, "finish_reason": None}]}))
        time.sleep(pause)
    send(handler, json.dumps({"choices": [{"delta": {}, "finish_reason": reason}]}))
    send(handler, "[DONE]")


def whole(handler: BaseHTTPRequestHandler, text: str) -> None:
    start(handler, "application/json")
    message = {"role": "assistant", "content": text}
    handler.wfile.write(json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}, indent=1).encode())


def start(handler: BaseHTTPRequestHandler, kind: str, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()


def send(handler: BaseHTTPRequestHandler, data: str) -> None:
    handler.wfile.write(f"data: {data}\n\n".encode())
    handler.wfile.flush()


def fails(status: int, body: str = "{}", **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """Return a response with this status."""

    def respond(handler: BaseHTTPRequestHandler) -> None:
        start(handler, "application/json", status, **headers)
        handler.wfile.write(body.encode())

    return respond


@contextmanager
def chat_server() -> Iterator[ChatServer]:
    """Run a server for the block."""
    server = ChatServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            if self.path != "/v1/chat/completions":
                fails(404)(self)
                return
            with suppress(OSError):  # the client has gone
                server.respond(self)

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.address = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
