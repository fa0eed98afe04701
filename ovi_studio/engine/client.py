"""`Worker`: the engine's process as seen from the one that starts it. Imports no torch.

The process is started when the first clip is asked for and stays. If it dies, the clip at hand fails with a sentence
and the next one gets a new process. One clip at a time; other threads wait for their turn.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import ovi_studio
from ovi_studio.engine import Ending, Event, Failed, event_from_line
from ovi_studio.spec import ClipSpec

PATIENCE = 15.0
"""Seconds that a process has to end by itself; more than it gives its own work."""


def worker_command(checkpoint_directory: Path, output_directory: Path) -> list[str]:
    """The command line of `engine.worker`."""
    module = [sys.executable, "-m", "ovi_studio.engine.worker"]
    return [*module, "--ckpt-dir", str(checkpoint_directory.absolute()), "--out", str(output_directory.absolute())]


class Worker:
    """Makes clips in a process of its own, which `command` starts."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = tuple(command)
        self._turn = threading.Lock()
        """Held as long as a clip is made."""
        self._state = threading.Lock()
        """Held for a moment: guards what follows and each line that is sent."""
        self._process: _Process | None = None
        self._at_work = False

    @property
    def pid(self) -> int | None:
        """Of the process, if there is one."""
        with self._state:
            return self._process.pid if self._process is not None and self._process.alive else None

    def run(self, spec: ClipSpec) -> Iterator[Event]:
        """Make a clip; the last event is `Done`, `Failed` or `Cancelled`. Who stops iterating cancels the clip."""
        with self._turn:
            process = self._send(spec)
            events = process.events()
            ending = None
            try:
                for ending in events:
                    yield ending
            finally:
                if not isinstance(ending, Ending):
                    self.cancel()
                    for _ in events:
                        pass
                with self._state:
                    self._at_work = False

    def cancel(self) -> bool:
        """Stop the clip that is being made, within a step; returns whether there was one. It ends as `Cancelled`."""
        with self._state:
            if not self._at_work or self._process is None:
                return False
            # If the process just died, its clip ends as failed.
            with contextlib.suppress(OSError):
                self._process.send({"cancel": True})
            return True

    def close(self) -> None:
        """End the process, and with it the clip that is being made."""
        with self._state:
            process, self._process = self._process, None
        if process is not None:
            process.end()

    def _send(self, spec: ClipSpec) -> "_Process":
        with self._state:
            # Twice, because a process that has just been ended may not look so yet.
            for _ in range(2):
                if self._process is None or not self._process.alive:
                    self._process = _Process(self._command)
                try:
                    self._process.send({"spec": spec.to_dict()})
                    break
                except OSError:
                    self._process.end()
            self._at_work = True
            return self._process


class _Process:
    """One process: its pipes, and what it said last."""

    def __init__(self, command: Sequence[str]) -> None:
        package_home = str(Path(ovi_studio.__file__).parent.parent)
        paths = [package_home, *filter(None, [os.environ.get("PYTHONPATH")])]
        # A group of its own: Ctrl+C in the terminal is for the page, which then ends its engine in order.
        group: dict[str, Any] = (
            {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
            if sys.platform == "win32"
            else {"start_new_session": True}
        )
        self._popen = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            **group,
        )
        self._last_words = ""
        self._listener = threading.Thread(target=self._listen, args=(self._popen.stderr,), daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    def send(self, message: dict[str, Any]) -> None:
        self._popen.stdin.write(json.dumps(message).encode() + b"\n")
        self._popen.stdin.flush()

    def events(self) -> Iterator[Event]:
        """Until the request at hand ends; the death of the process is an end, too."""
        for line in self._popen.stdout:
            event = event_from_line(line)
            yield event
            if isinstance(event, Ending):
                return
        yield Failed(self._obituary())

    def end(self) -> None:
        with contextlib.suppress(OSError):
            self._popen.stdin.close()
        try:
            self._popen.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._kill()
            self._popen.wait()

    def _kill(self) -> None:
        if sys.platform == "win32":
            self._popen.kill()
        else:
            # With whatever it has started.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._popen.pid, signal.SIGKILL)

    def _listen(self, stderr: BinaryIO) -> None:
        for line in stderr:
            text = line.decode(errors="replace").rstrip()
            # Bars of progress overwrite themselves within a line.
            self._last_words = text.rsplit("\r", 1)[-1].strip() or self._last_words
            print(text, file=sys.stderr)

    def _obituary(self) -> str:
        self.end()
        self._listener.join(timeout=1)
        last_words = f" Its last words: {self._last_words}" if self._last_words else ""
        return f"The engine stopped unexpectedly ({self._exit()}); the next clip starts a new one.{last_words}"

    def _exit(self) -> str:
        code = self._popen.returncode
        if code >= 0:
            return f"exit code {code}"
        name = signal.Signals(-code).name
        return f"{name}, often a lack of memory" if name == "SIGKILL" else name
