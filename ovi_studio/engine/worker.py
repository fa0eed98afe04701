"""The engine's process: `python -m ovi_studio.engine.worker --ckpt-dir DIR --out DIR`.

Requests come as lines of JSON on stdin: `{"spec": {...}}` makes a clip, `{"cancel": true}` ends the one at hand within
a step. Events (see the package) leave on stdout, and nothing else does. The models stay loaded until another variant is
asked for. What a person can put right fails one request; anything unexpected ends the process with its traceback on
stderr. The process also ends when stdin does, so that it never outlives who started it.
"""

import argparse
import gc
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from ovi_studio.checkpoints.layout import require
from ovi_studio.engine import Cancelled, Decoding, Done, Ending, Event, Failed, Loading, Progress, event_to_line
from ovi_studio.errors import JobError, Stopped
from ovi_studio.media import check_writable, read_record
from ovi_studio.spec import ClipSpec

if TYPE_CHECKING:
    from ovi_studio.generate import Generator
    from ovi_studio.sampling.denoise import Step

GRACE = 10.0
"""Seconds that the work at hand may take to end after stdin did."""


class Inbox:
    """Requests in the order in which they came, and whether the one at hand is to be stopped."""

    def __init__(self, source: BinaryIO) -> None:
        self.stopped = threading.Event()
        self._requests: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(source,), daemon=True).start()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Ends when the source does."""
        return iter(self._requests.get, None)

    def _read(self, source: BinaryIO) -> None:
        for line in source:
            request = json.loads(line)
            if request.get("cancel"):
                self.stopped.set()
            else:
                # A cancel that came too late for the clip before does not count for this one.
                self.stopped.clear()
                self._requests.put(request)
        self.stopped.set()
        self._requests.put(None)
        # This thread is a daemon: if the work ends in time, the process is gone before the next line is reached.
        time.sleep(GRACE)
        os._exit(1)


class Engine:
    """Answers requests, one after the other."""

    def __init__(
        self,
        checkpoint_directory: Path,
        output_directory: Path,
        emit: Callable[[Event], None],
        stopped: threading.Event,
    ) -> None:
        self._checkpoint_directory = checkpoint_directory
        self._output_directory = output_directory
        self._emit = emit
        self._stopped = stopped
        self._generator: Generator | None = None
        self._loaded: str | None = None
        self._decoding_seconds: dict[str, float] = {}
        """How long the last clip of a variant took after its last step."""

    def answer(self, request: dict[str, Any]) -> None:
        """Make the clip of a request and emit its events; the last one is an `Ending`."""
        ending = self._try(request)
        if isinstance(ending, Failed):
            # Not earlier: the exception held on to the memory that it was about.
            _free_memory()
        self._emit(ending)

    def _try(self, request: dict[str, Any]) -> Ending:
        try:
            return self._make(ClipSpec.from_dict(request["spec"]))
        except Stopped:
            return Cancelled()
        except JobError as error:
            return Failed(str(error))
        except Exception as error:
            if not _is_out_of_memory(error):
                raise
            print(f"Out of memory: {error}", file=sys.stderr)
            return Failed(
                "There is not enough memory for this clip; close other programs that use the GPU, or choose a variant "
                "with fewer pixels or fewer seconds."
            )

    def _make(self, spec: ClipSpec) -> Done:
        # Loading takes minutes; whoever has no space for the clip should not wait for it.
        check_writable(self._output_directory)
        generator = self._generator_for(spec.variant)
        self._check_stopped()
        self._emit(Progress(0, spec.steps))
        clock = _StepClock(self._decoding_seconds.get(spec.variant))

        def on_step(step: "Step") -> None:
            self._check_stopped()
            self._emit(clock.after(step.index, step.total))
            if step.index == step.total:
                self._emit(Decoding(clock.decoding_seconds))

        path = generator.make(spec, self._output_directory, on_step).absolute()
        self._decoding_seconds[spec.variant] = time.monotonic() - clock.last
        height, width = read_record(path)["size"]
        return Done(path, path.with_suffix(".jpg"), (height, width), time.monotonic() - clock.start)

    def _generator_for(self, variant_name: str) -> "Generator":
        if self._generator is None or self._loaded != variant_name:
            self._emit(Loading(require(variant_name, self._checkpoint_directory).variant.title))
            from ovi_studio.generate import Generator
            from ovi_studio.pipeline import Compute

            self._generator = self._generator or Generator(self._checkpoint_directory, Compute.default())
            self._loaded = None
            self._generator.pipeline(variant_name)
            self._loaded = variant_name
        return self._generator

    def _check_stopped(self) -> None:
        if self._stopped.is_set():
            raise Stopped


class _StepClock:
    """Measures steps and says how long the rest takes."""

    def __init__(self, decoding_seconds: float | None) -> None:
        self.decoding_seconds = decoding_seconds
        self.start = self.last = self._first = time.monotonic()

    def after(self, index: int, total: int) -> Progress:
        self.last = time.monotonic()
        if index == 1:
            self._first = self.last
        # The first step comes after the text encoder and warms up kernels; it counts until there is another one.
        pace = (self.last - self._first) / (index - 1) if index > 1 else self.last - self.start
        return Progress(index, total, pace, pace * (total - index) + (self.decoding_seconds or 0))


def _is_out_of_memory(error: Exception) -> bool:
    torch = sys.modules.get("torch")
    if torch is None:
        return isinstance(error, MemoryError)
    # The allocator for host memory raises a plain RuntimeError.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def _free_memory() -> None:
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _take_pipes() -> tuple[BinaryIO, TextIO]:
    """The real stdin and stdout, for requests and events alone.

    What else this process prints goes to stderr from now on, and what else it reads is empty.
    """
    requests = os.fdopen(os.dup(0), "rb")
    events = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, events


def main(arguments: Sequence[str] | None = None) -> None:
    """Answer requests until stdin ends."""
    parser = argparse.ArgumentParser(prog="python -m ovi_studio.engine.worker", description="The engine's process.")
    parser.add_argument("--ckpt-dir", type=Path, required=True, help="checkpoint directory")
    parser.add_argument("--out", type=Path, required=True, help="folder for the clips")
    options = parser.parse_args(arguments)
    requests, events = _take_pipes()

    def emit(event: Event) -> None:
        print(event_to_line(event), file=events, flush=True)

    inbox = Inbox(requests)
    engine = Engine(options.ckpt_dir, options.out, emit, inbox.stopped)
    for request in inbox:
        engine.answer(request)


if __name__ == "__main__":
    main()
