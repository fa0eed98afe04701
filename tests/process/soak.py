"""The page under load for minutes: `python tests/process/soak.py --minutes 10`; `test_soak.py` is its short form.

Starts `app.py` with an engine of fake models. Each session does what an open page does: it follows the pulse, refreshes
its live parts and the library, uploads pictures, and queues, lists and cancels jobs. Printed are the memory, the open
descriptors and the threads of the page's process, and the slowest answer of each kind.
"""

import argparse
import http.client
import io
import json
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1] / "support"), str(Path(__file__).parents[2])]

import numpy as np  # noqa: E402
import psutil  # noqa: E402
from PIL import Image  # noqa: E402
from studio_app import Application, running  # noqa: E402

SESSIONS = 20
PAUSE = 1.5
"""Seconds between two actions of a session."""
_TIMEOUT = 60


@dataclass(frozen=True)
class Reading:
    """The page's process at one moment."""

    seconds: float
    megabytes: float
    """Resident memory."""
    descriptors: int
    threads: int

    def __str__(self) -> str:
        return (
            f"{self.seconds / 60:5.1f} min: {self.megabytes:6.1f} MB, {self.descriptors} descriptors, "
            f"{self.threads} threads"
        )


@dataclass
class Tally:
    """What all sessions have seen; appended to by their threads."""

    actions: Counter[str] = field(default_factory=Counter)
    slowest: dict[str, float] = field(default_factory=dict)
    """Seconds, by action."""
    problems: list[str] = field(default_factory=list)


class Session:
    """A browser session, without the browser."""

    def __init__(self, application: Application, number: int, tally: Tally) -> None:
        self._port, self._tally = application.port, tally
        self._number, self._name = number, f"soak{number}"
        self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT)
        self._config: dict[str, Any] = {}
        self._pulse = ""

    def run(self, end: threading.Event) -> None:
        """Open the page, then act until the end."""
        step = self._number
        try:
            self._timed("open", self._open)
            while not end.wait(PAUSE):
                self._timed("pulse", self._beat)
                action = (self._library, self._list, self._queue, self._upload, self._library, self._cancel)[step % 6]
                self._timed(action.__name__.strip("_"), action)
                step += 1
        except Exception as error:
            self._tally.problems.append(f"session {self._number}: {type(error).__name__}: {error}")
        finally:
            self._connection.close()

    def _timed(self, name: str, action: Any) -> None:
        started = time.monotonic()
        action()
        self._tally.actions[name] += 1
        self._tally.slowest[name] = max(self._tally.slowest.get(name, 0.0), time.monotonic() - started)

    def _open(self) -> None:
        self._ask("GET", "/")
        self._config = json.loads(self._ask("GET", "/config"))
        self._trigger("load")

    def _beat(self) -> None:
        now = self._ask("GET", "/studio/pulse").decode()
        if now != self._pulse:
            self._pulse = now
            self._trigger("beat")
            self._trigger("table")

    def _library(self) -> None:
        # The first one with this event is the wall of the Library tab.
        self._trigger("shown", limit=1)

    def _list(self) -> None:
        self._call("list", ["", 0, 50])

    def _queue(self) -> None:
        self._call("queue", [f"clip of session {self._number} <S>Hi</S>", "", None, {"steps": 1}, 1, "", 0])

    def _cancel(self) -> None:
        waiting = json.loads(self._call("list", ["queued", 0, 5]))
        self._call("cancel", [[job["id"] for job in waiting[0]]])

    def _upload(self) -> None:
        data = io.BytesIO()
        Image.fromarray(np.random.default_rng().integers(0, 256, (96, 96, 3), np.uint8)).save(data, "PNG")
        head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="frame.png"\r\n\r\n'
        body = head + data.getvalue() + b"\r\n--x--\r\n"
        (path,) = json.loads(self._ask("POST", "/gradio_api/upload", body, "multipart/form-data; boundary=x"))
        picture = {"path": path, "meta": {"_type": "gradio.FileData"}}
        self._call("queue", ["a clip from a picture", "", picture, {"steps": 1}, 1, "", 0])

    def _trigger(self, event: str, limit: int = 100) -> None:
        """Run the handlers of the page's own events of this name, as its scripts do."""
        values = {part["id"]: part["props"].get("value") for part in self._config["components"]}
        found = [one for one in self._config["dependencies"] if any(name == event for _, name in one["targets"])]
        for handler in [one for one in found if one["backend_fn"]][:limit]:
            data = [values[part] for part in handler["inputs"]]
            call = {"data": data, "fn_index": handler["id"], "session_hash": self._name, "event_data": {}}
            self._ask("POST", "/gradio_api/run/predict", json.dumps(call).encode())

    def _call(self, endpoint: str, values: list[Any]) -> str:
        """The data of an endpoint's last event, through Gradio's queue."""
        started = self._ask("POST", f"/gradio_api/call/{endpoint}", json.dumps({"data": values}).encode())
        said = self._ask("GET", f"/gradio_api/call/{endpoint}/{json.loads(started)['event_id']}").decode()
        answers = re.findall(r"^event: (\w+)\ndata: (.*)$", said, re.MULTILINE)
        if not answers or answers[-1][0] != "complete":
            raise RuntimeError(f"{endpoint} answered {said[-300:]!r}")
        return answers[-1][1]

    def _ask(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> bytes:
        self._connection.request(method, path, body, {"Content-Type": kind} if body else {})
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path} answered {answer.status}: {content[:300]!r}")
        return content


def soak(outputs: Path, seconds: float, every: float, sessions: int = SESSIONS) -> tuple[list[Reading], Tally]:
    """Run the sessions for some seconds; returns a reading at the start, one `every` so many seconds, and the tally."""
    tally, end = Tally(), threading.Event()
    with running(outputs, cold=True) as application:
        process = psutil.Process(application.process.pid)
        started = time.monotonic()
        readings = [read(process, 0.0)]
        threads = [
            threading.Thread(target=Session(application, number, tally).run, args=(end,)) for number in range(sessions)
        ]
        for thread in threads:
            thread.start()
        try:
            while (now := time.monotonic() - started) < seconds and not tally.problems:
                time.sleep(min(every, seconds - now))
                readings.append(read(process, time.monotonic() - started))
                print(readings[-1], flush=True)
        finally:
            end.set()
            for thread in threads:
                thread.join(2 * _TIMEOUT)
    return readings, tally


def read(process: psutil.Process, seconds: float) -> Reading:
    descriptors = process.num_fds() if hasattr(process, "num_fds") else process.num_handles()
    return Reading(seconds, process.memory_info().rss / 2**20, descriptors, process.num_threads())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--sessions", type=int, default=SESSIONS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ovi-soak-") as folder:
        readings, tally = soak(Path(folder) / "outputs", options.minutes * 60, 60, options.sessions)
    print(f"start: {readings[0]}")
    for action, count in sorted(tally.actions.items()):
        print(f"{action}: {count} times, the slowest {tally.slowest[action]:.2f} s")
    for problem in tally.problems:
        print(f"problem: {problem}")
    return 1 if tally.problems else 0


if __name__ == "__main__":
    sys.exit(main())
