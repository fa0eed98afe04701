"""`ActorExecutor`: the `Executor` that makes clips in an actor on another machine.

An actor whose process ends takes its engine with it: the job is recovered as that of any engine that died, since the
job may be the cause. A machine that is gone, or cannot be reached, is not the job's fault: the job goes back to the
queue. Nothing that still runs there can reach the library, because only the head writes clips.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ovi_studio.adapters.header import locate
from ovi_studio.adapters.library import AdapterLibrary
from ovi_studio.core.errors import JobError, Stopped
from ovi_studio.core.spec import ClipSpec
from ovi_studio.engine.executor import ExecutorFault, MadeClip
from ovi_studio.farm.actor import ActorSetup, ClipActor
from ovi_studio.farm.files import PIECE_BYTES, Content
from ovi_studio.farm.machine import Machine
from ovi_studio.farm.wire import (
    AliveEvent,
    ClipRequest,
    DecodedEvent,
    DoneEvent,
    Event,
    FailedEvent,
    Failure,
    PhaseEvent,
    PieceEvent,
    StepEvent,
)
from ovi_studio.media.clip_files import EncodedClip
from ovi_studio.runtime.progress import ProgressSink
from ovi_studio.runtime.step_down import StepDown

SILENCE_SECONDS = 60.0
"""How long a machine may say nothing; an actor says every few seconds that it is there."""
DESCRIBE_SECONDS = 1800.0
"""How long a machine may take to hash its checkpoints."""
MAX_FAILED_JOBS = 3
"""Jobs that may fail one after the other before the machine counts as the cause."""
_LEAVING_SECONDS = 2.0
_NODE_SECONDS = 15.0
"""How long a machine whose actor has ended may take to show that it is still there."""


class ActorExecutor:
    """Makes clips on one GPU of another machine, or on its processor.

    Args:
        adapters: the adapters of the head.
    """

    def __init__(
        self, node: str, name: str, *, gpus: int, setup: ActorSetup, adapters: AdapterLibrary, silence: float
    ) -> None:
        self.fault: str | None = None
        """Why no more clips can be made here."""
        self.taking = True
        """Whether to claim more jobs."""
        self.made = 0
        """Clips so far."""
        self._node = node
        self._name = name
        self._adapters = adapters
        self._silence = silence
        self._variant: str | None = None
        self._failed_jobs = 0
        self._placement = NodeAffinitySchedulingStrategy(node, soft=False)
        # A clip occupies one thread of the actor; what is called beside it needs others.
        actor = ray.remote(ClipActor).options(
            num_cpus=1, num_gpus=gpus, max_concurrency=4, max_restarts=0, scheduling_strategy=self._placement
        )
        if not gpus:
            setup = replace(setup, options=replace(setup.options, device="cpu"))
        self._actor = actor.remote(name, setup)
        self.machine: Machine = self._ask(self._actor.describe, DESCRIBE_SECONDS)

    @property
    def variant(self) -> str | None:
        """See `Executor`."""
        return self._variant

    @property
    def usable(self) -> bool:
        """See `Executor`."""
        return self.fault is None

    @property
    def steps_down_itself(self) -> bool:
        """See `Executor`."""
        return True

    def variants(self) -> Collection[str]:
        """See `Executor`."""
        return list(self.machine.variants) if self.taking else []

    def make(self, spec: ClipSpec, progress: ProgressSink, facts: Mapping[str, Any]) -> MadeClip:
        """See `Executor`."""
        request = self._request(spec, facts)
        events = self._events(self._actor.make.options(num_returns="streaming").remote(request))
        movie = bytearray()
        try:
            for event in events:
                if isinstance(event, PieceEvent):
                    movie += event.data
                elif isinstance(event, DoneEvent):
                    return self._made(event, bytes(movie))
                elif isinstance(event, FailedEvent):
                    self._raise(event)
                else:
                    _report(event, progress)
        except Stopped:
            self._actor.stop.remote()
            for _ in events:  # until the step is done, since the actor makes one clip at a time
                pass
            raise
        raise self._lost("its last clip ended without a result")

    def next_step_down(self) -> StepDown | None:
        """See `Executor`."""
        return self._ask(self._actor.next_step_down)

    def step_down(self, step: StepDown) -> None:
        """See `Executor`."""
        self._ask(self._actor.step_down, self._silence, step)

    def memory_advice(self, spec: ClipSpec, below: StepDown | None) -> str:
        """See `Executor`."""
        return self._ask(self._actor.memory_advice, self._silence, spec, below)

    def on_peer_loss(self, call: Callable[[bool], None]) -> None:
        """See `Executor`; the actor has no other ranks."""

    def close(self) -> None:
        """End the actor."""
        ray.kill(self._actor)

    def _request(self, spec: ClipSpec, facts: Mapping[str, Any]) -> ClipRequest:
        """Send the files that the machine lacks, and return the request for the clip."""
        files: dict[Content, Path] = {}
        image = None
        if spec.image is not None:
            image = Content.of(spec.image, spec.image.name)
            files[image] = spec.image
        names = {}
        for use in self._adapters.pin(spec.stack):
            if use.zero or use.sha256 is None:
                continue
            found = locate(self._adapters.path(use.name))
            names[use.name] = f"{use.sha256}.safetensors" if found.config is None else use.sha256
            for path in filter(None, (found.weights, found.config)):
                location = names[use.name] if found.config is None else f"{use.sha256}/{path.name}"
                files[Content.of(path, location)] = path
        for content in self._ask(self._actor.lacks, self._silence, list(files)) if files else ():
            self._send(content, files[content])
        return ClipRequest(spec, image, names, facts)

    def _send(self, content: Content, path: Path) -> None:
        with path.open("rb") as file:
            for offset in range(0, max(1, content.size), PIECE_BYTES):
                failed = self._ask(self._actor.receive, self._silence, content, offset, file.read(PIECE_BYTES))
                if failed is not None:
                    self._raise(failed)

    def _ask(self, method: Any, seconds: float | None = None, *arguments: Any) -> Any:
        try:
            return ray.get(method.remote(*arguments), timeout=seconds or self._silence)
        except GetTimeoutError as error:
            raise self._lost(f"it did not answer for {seconds or self._silence:.0f} s") from error
        except RayError as error:
            raise self._gone(error) from error

    def _events(self, generator: Any) -> Iterator[Event]:
        """Yield what the actor sends; ends after the event that ends the clip."""
        while True:
            try:
                if not ray.wait([generator], timeout=self._silence)[0]:
                    raise self._lost(f"it has said nothing for {self._silence:.0f} s")
                event = ray.get(next(generator), timeout=self._silence)
            except GetTimeoutError as error:
                raise self._lost(f"its data did not arrive for {self._silence:.0f} s") from error
            except StopIteration:
                return
            except RayError as error:
                raise self._gone(error) from error
            yield event

    def _made(self, done: DoneEvent, movie: bytes) -> MadeClip:
        if len(movie) != done.movie_bytes:
            raise self._lost(f"{done.movie_bytes - len(movie)} bytes of a clip were lost on the way")
        self.made += 1
        self._failed_jobs = 0
        self._variant = done.variant
        return MadeClip(EncodedClip(movie, done.poster), done.frames)

    def _raise(self, failed: FailedEvent) -> None:
        match failed.failure:
            case Failure.STOPPED:
                raise Stopped
            case Failure.MEMORY:
                raise MemoryError
            case Failure.MACHINE:
                raise self._lost(failed.text)
            case Failure.JOB:
                self._failed_jobs += 1
                if self._failed_jobs >= MAX_FAILED_JOBS:
                    self.fault = (
                        f"{self._failed_jobs} jobs failed there one after the other, the last because: {failed.text}"
                    )
                raise JobError(failed.text)
        self.fault = f"An unexpected error: {failed.text.strip().splitlines()[-1]}"
        raise RuntimeError(f"an error on {self._name}:\n{failed.text}")

    def _lost(self, reason: str) -> ExecutorFault:
        self.fault = f"Machine {self._name}: {reason}"
        return ExecutorFault(self.fault)

    def _gone(self, error: RayError) -> Exception:
        """Return the error for an actor that is gone: its machine's fault, or possibly the job's."""
        # The processes of a machine that leaves end one after the other, so it is asked twice.
        for wait in (0.0, _LEAVING_SECONDS):
            time.sleep(wait)
            if not self._node_lives():
                return self._lost("it has left the cluster, or cannot be reached")
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        self.fault = f"The process on {self._name} has ended: {reason}"
        return RuntimeError(self.fault)

    def _node_lives(self) -> bool:
        # Ray notices only after a while that a node is gone, so something must run there.
        probe = ray.remote(_nothing).options(num_cpus=0, max_retries=0, scheduling_strategy=self._placement)
        try:
            ray.get(probe.remote(), timeout=_NODE_SECONDS)
        except (RayError, GetTimeoutError):
            return False
        return True


def _nothing() -> None:
    pass


def _report(event: Event, progress: ProgressSink) -> None:
    match event:
        case PhaseEvent(phase):
            progress.phase(phase)
        case StepEvent(index, total, latents):
            progress.step(index, total, None if latents is None else _tensor(latents))
        case DecodedEvent(fraction):
            progress.decoded(fraction)
        case AliveEvent():
            pass


def _tensor(latents: Any) -> Any:
    import torch

    return torch.from_numpy(latents.copy())  # what comes out of the object store is read-only
