"""A chat model on this machine, in a process of its own: it can be ended at any moment, and leaves GPUs to clips.

The process (`runtime.chat_process`) starts with the first question and ends when no question has come for a while, so
that its memory is there for clips again.
"""

import json
import os
import subprocess
import sys
import threading
from queue import Empty, Queue

from ovi_studio.core.errors import JobError
from ovi_studio.services.prompt_helper.chat import Deadline, Message, require_short

_IDLE_SECONDS = 120.0


class LocalChat:
    """A model of transformers, by folder or hub name. Questions of several threads wait for each other."""

    def __init__(self, model: str, place: str) -> None:
        self._model = model
        self.place = place
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._lines: Queue[str | None] = Queue()
        self._idle: threading.Timer | None = None

    def answer(self, messages: list[Message], deadline: Deadline) -> str:
        if not self._lock.acquire(timeout=deadline.left):
            raise deadline.missed(self.place)
        try:
            self._stop_clock()
            return self._ask(messages, deadline)
        except BaseException:
            self._end()  # it may be in the midst of an answer to a question that nobody waits for
            raise
        finally:
            self._start_clock()
            self._lock.release()

    def close(self) -> None:
        # Ended at once: an answer that is being written would otherwise be waited for.
        if (process := self._process) is not None:
            process.kill()
        with self._lock:
            self._stop_clock()
            self._end()

    def _rest(self) -> None:
        """End the process unless it is answering again."""
        if self._lock.acquire(blocking=False):
            self._end()
            self._lock.release()

    def _ask(self, messages: list[Message], deadline: Deadline) -> str:
        process = self._running()
        assert process.stdin is not None
        try:
            print(json.dumps([message.to_dict() for message in messages]), file=process.stdin, flush=True)
        except OSError as error:
            raise self._ended() from error
        try:
            line = self._lines.get(timeout=deadline.left)
        except Empty:
            raise deadline.missed(self.place) from None
        if line is None:
            raise self._ended()
        found = json.loads(line)
        if "error" in found:
            raise JobError(found["error"])
        require_short(found["text"], self.place)
        return str(found["text"])

    def _running(self) -> "subprocess.Popen[str]":
        if self._process is None or self._process.poll() is not None:
            self._lines = Queue()
            # A GPU is for clips.
            environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""}
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ovi_studio.runtime.chat_process", self._model],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                env=environment,
            )
            threading.Thread(target=_read, args=(self._process, self._lines), daemon=True).start()
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _ended(self) -> JobError:
        return JobError(
            f"{self.place[:1].upper()}{self.place[1:]} ended without an answer; its messages are in the log, and too "
            f"little memory is the usual cause."
        )

    def _start_clock(self) -> None:
        self._idle = threading.Timer(_IDLE_SECONDS, self._rest)
        self._idle.daemon = True
        self._idle.start()

    def _stop_clock(self) -> None:
        if self._idle is not None:
            self._idle.cancel()


def _read(process: "subprocess.Popen[str]", lines: "Queue[str | None]") -> None:
    """Pass on the answers of a process, and None when it has ended."""
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    lines.put(None)
