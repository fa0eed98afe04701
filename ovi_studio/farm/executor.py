"""`ActorExecutor`: the `Executor` that makes clips in an actor on another machine.

An actor whose process ends takes its engine with it: the job is recovered as that of any engine that died, since the
job may be the cause. A machine that is gone, or cannot be reached, is not the job's fault: the job goes back to the
queue. Nothing that still runs there can reach the library, because only the head writes clips.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, OutOfDiskError, RayActorError, RayError, RayTaskError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from ovi_studio.adapters.header import locate
from ovi_studio.adapters.library import AdapterLibrary
from ovi_studio.core.errors import JobError, Stopped
from ovi_studio.core.spec import ClipSpec
from ovi_studio.engine.executor import ClipFacts, ExecutorFault, MadeClip
from ovi_studio.farm.actor import ActorSetup, ClipActor
from ovi_studio.farm.cluster import answers
from ovi_studio.farm.command import FarmAddress
from ovi_studio.farm.files import Content, read_pieces
from ovi_studio.farm.machine import Machine
from ovi_studio.farm.relay import Defect, PatientSink, failure_of, receive
from ovi_studio.farm.seats import Seat
from ovi_studio.farm.wire import ADAPTERS, PICTURE, SOURCE, ClipRequest, Event
from ovi_studio.media.sources import pin_source
from ovi_studio.runtime.progress import ProgressSink
from ovi_studio.runtime.step_down import StepDown

SILENCE_SECONDS = 60.0
"""How long a machine may say nothing; an actor says every few seconds that it is there."""
DESCRIBE_SECONDS = 1800.0
"""How long a machine may take to hash its checkpoints."""
MAX_FAILED_JOBS = 3
"""Jobs that may fail one after the other before the machine counts as the cause."""
MEMORY_SECONDS = 10.0
"""How often a machine is asked for its memory."""
_LOOK_SECONDS = 1.0
"""How often whoever waits for a machine looks whether to wait on."""
_LEAVING_SECONDS = 2.0
_NODE_ID = "ray.io/node-id"
"""Ray's own label of a node."""

log = logging.getLogger(__name__)


class ActorExecutor:
    """Makes clips on one seat of another machine.

    Args:
        adapters: the adapters of the head.
        silence: seconds that the machine may say nothing.
        stop: set when no more clips are to be made here; nothing waits for the machine then, except for the end of a
            clip that is nearly written.

    Raises `ExecutorFault` if the machine does not answer.
    """

    def __init__(
        self, seat: Seat, setup: ActorSetup, adapters: AdapterLibrary, silence: float, stop: threading.Event
    ) -> None:
        self.fault: str | None = None
        """Why no more clips can be made here."""
        self.taking = True
        """Whether to claim more jobs."""
        self.making = False
        """Whether a clip is being made."""
        self.made = 0
        """Clips so far."""
        self.variant: str | None = None
        """See `Executor`."""
        self._seat = seat
        self._name = seat.name
        self._adapters = adapters
        self._silence = silence
        self._stop = stop
        self._abandoned = threading.Event()
        self._failed_jobs = 0
        self._memory: tuple[float, float] | None = None
        self._asked: Any = None
        """The answer that is on its way."""
        self._ask_at = 0.0
        self._group = _shared_gpus(seat) if seat.gpus > 1 else None
        where = (
            NodeAffinitySchedulingStrategy(seat.node, soft=False)
            if self._group is None
            else PlacementGroupSchedulingStrategy(self._group)
        )
        # A clip occupies one thread of the actor; what is called beside it needs others.
        actor = ray.remote(ClipActor).options(
            num_cpus=1, num_gpus=seat.gpus, max_concurrency=4, max_restarts=0, scheduling_strategy=where
        )
        if not seat.gpus and seat.ranks == 1:
            setup = replace(setup, options=replace(setup.options, device="cpu"))
        self._actor = actor.remote(seat.name, setup, seat.ranks)
        try:
            self.machine: Machine = self._ask(self._actor.describe, DESCRIBE_SECONDS)
        except Exception as error:
            self.close()  # GPUs that stay reserved would be missing at the next try
            raise (ExecutorFault(self.fault) if self.fault else error) from error

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

    def make(self, spec: ClipSpec, progress: ProgressSink, facts: ClipFacts) -> MadeClip:
        """See `Executor`."""
        self.making = True
        try:
            made = self._make(self._request(spec, replace(facts, machine=self._name), progress), progress)
        finally:
            self.making = False
        self.made += 1
        self._failed_jobs = 0
        self.variant = spec.variant
        return made

    def _make(self, request: ClipRequest, progress: ProgressSink) -> MadeClip:
        events = self._events(self._actor.make.options(num_returns="streaming").remote(request))
        try:
            return receive(events, progress)
        except Stopped:
            if not self._stop.is_set():  # otherwise the actor ends as well
                self._actor.stop.remote()
                for _ in events:  # until the step is done, since the actor makes one clip at a time
                    pass
            raise
        except ExecutorFault as error:
            raise (error if self.fault else self._lost(str(error))) from None
        except JobError as error:
            self._count(error)
            raise
        except Defect as error:
            raise self._unexpected(error) from None

    def memory(self) -> tuple[float, float] | None:
        """Return the GiB that are free there, and all, as it said last; None before. Does not wait."""
        if self._asked is None and time.monotonic() >= self._ask_at:
            self._asked = self._actor.memory.remote()
        elif self._asked is not None and ray.wait([self._asked], timeout=0)[0]:
            asked, self._asked, self._ask_at = self._asked, None, time.monotonic() + MEMORY_SECONDS
            with contextlib.suppress(RayError):  # whoever makes a clip there learns why
                self._memory = ray.get(asked)
        return self._memory

    def next_step_down(self) -> StepDown | None:
        """See `Executor`."""
        return self._ask(self._actor.next_step_down, self._silence)

    def step_down(self, step: StepDown) -> None:
        """See `Executor`."""
        self._ask(self._actor.step_down, self._silence, step)

    def memory_advice(self, spec: ClipSpec, below: StepDown | None) -> str:
        """See `Executor`."""
        return self._ask(self._actor.memory_advice, self._silence, spec, below)

    def on_peer_loss(self, call: Callable[[bool], None]) -> None:
        """See `Executor`; the actor has no other ranks."""

    def abandon(self) -> None:
        """Wait for nothing any more: a clip that is being made goes back to the queue."""
        self._abandoned.set()

    def close(self) -> None:
        """End the actor."""
        ray.kill(self._actor)
        if self._group is not None:
            remove_placement_group(self._group)

    def _request(self, spec: ClipSpec, facts: ClipFacts, progress: ProgressSink) -> ClipRequest:
        """Send the files that the machine lacks, and return the request for the clip."""
        paths = dict(self._files(pin_source(spec)))
        files = {name: Content.of(path) for name, path in paths.items()}
        sent = {content: paths[name] for name, content in files.items()}
        for content in self._ask(self._actor.lacks, self._silence, list(sent)) if sent else ():
            self._send(content, sent[content], progress)
        return ClipRequest(spec, files, facts)

    def _files(self, spec: ClipSpec) -> Iterator[tuple[str, Path]]:
        """Yield the files of a clip, and their names in its folder; raises `JobError` if one is gone or another."""
        for folder, path in ((PICTURE, spec.image), (SOURCE, spec.source)):
            if path is not None:
                yield f"{folder}/{path.name}", path
        for use in self._adapters.pin(spec.stack):
            if use.zero:
                continue
            entry = self._adapters.find(use.name)
            found = locate(entry.path)
            for path in filter(None, (found.weights, found.config)):
                # A folder with two files, or a file.
                name = PurePosixPath(entry.name).parent / path.relative_to(entry.path.parent).as_posix()
                yield f"{ADAPTERS}/{name}", path

    def _send(self, content: Content, path: Path, progress: ProgressSink) -> None:
        """Send a file, and once more if it was damaged on the way; raises `JobError` if it was so again."""
        error = self._send_once(content, path, progress)
        if error is not None:
            log.warning("A file is sent to machine %s once more: %s", self._name, error)
            error = self._send_once(content, path, progress)
        if error is not None:
            self._count(error)
            raise error

    def _send_once(self, content: Content, path: Path, progress: ProgressSink) -> JobError | None:
        offset = 0
        for piece in read_pieces(path):
            if isinstance(progress, PatientSink):
                progress.waiting()
            failed = self._ask(self._actor.receive, self._silence, content, offset, piece)
            if failed is not None:
                error = failure_of(failed)
                if isinstance(error, JobError) and not isinstance(error, ExecutorFault):
                    return error
                raise self._lost(str(error))
            offset += len(piece)
        return None

    def _ask(self, method: Any, seconds: float, *arguments: Any) -> Any:
        answer = method.remote(*arguments)
        try:
            self._await(answer, seconds, self._stop)
            return ray.get(answer, timeout=seconds)
        except GetTimeoutError as error:
            raise self._lost(f"its answer did not arrive for {seconds:.0f} s") from error
        except RayError as error:
            raise self._gone(error) from error

    def _events(self, generator: Any) -> Iterator[Event]:
        """Yield what the actor sends; ends after the event that ends the clip."""
        while True:
            try:
                self._await(generator, self._silence, self._abandoned)
                event = ray.get(next(generator), timeout=self._silence)
            except GetTimeoutError as error:
                raise self._lost(f"its data did not arrive for {self._silence:.0f} s") from error
            except StopIteration:
                return
            except RayError as error:
                raise self._gone(error) from error
            yield event

    def _await(self, answer: Any, seconds: float, end: threading.Event) -> None:
        """Wait until there is something from the actor; raises `ExecutorFault` if there will be nothing."""
        deadline = time.monotonic() + seconds
        while not ray.wait([answer], timeout=min(seconds, _LOOK_SECONDS))[0]:
            if end.is_set() or self._abandoned.is_set():
                raise self._lost("it was told to end")
            if time.monotonic() >= deadline:
                raise self._lost(f"it has said nothing for {seconds:.0f} s")

    def _count(self, error: JobError) -> None:
        self._failed_jobs += 1
        if self._failed_jobs >= MAX_FAILED_JOBS:
            self.fault = f"{self._failed_jobs} jobs failed there one after the other, the last because: {error}"

    def _lost(self, reason: str) -> ExecutorFault:
        self.fault = f"Machine {self._name}: {reason}"
        return ExecutorFault(self.fault)

    def _gone(self, error: RayError) -> Exception:
        """Return the error for an actor that did not answer: its machine's fault, or possibly the job's."""
        if isinstance(error, RayTaskError) or (isinstance(error, RayActorError) and error.actor_init_failed):
            return self._unexpected(error)
        if isinstance(error, OutOfDiskError):
            return self._lost("its disk is full; free up some space there")
        # The processes of a machine that leaves end one after the other, so it is asked twice.
        for wait in (0.0, _LEAVING_SECONDS):
            time.sleep(wait)
            if not self._node_lives():
                return self._lost("it has left the cluster, or cannot be reached")
        if self._stop.is_set():
            return self._lost("it was told to end")
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        self.fault = f"The process on {self._name} has ended: {reason}"
        return RuntimeError(self.fault)

    def _unexpected(self, error: Exception) -> Exception:
        """Return the error for one that our code there did not expect; its traceback is in the log."""
        log.error("An unexpected error on machine %s:\n%s", self._name, error)
        self.fault = f"An unexpected error: {str(error).strip().splitlines()[-1]}"
        return RuntimeError(self.fault)

    def _node_lives(self) -> bool:
        # Ray notices only after a while that a node is gone, so it is asked itself, too.
        nodes = (node for node in ray.nodes() if node["NodeID"] == self._seat.node and node["Alive"])
        return any(answers(FarmAddress(node["NodeManagerAddress"], node["NodeManagerPort"])) for node in nodes)


def _shared_gpus(seat: Seat) -> PlacementGroup:
    """Reserve the GPUs of a seat on its node, all or none."""
    return placement_group([{"CPU": 1, "GPU": seat.gpus}], "STRICT_PACK", bundle_label_selector=[{_NODE_ID: seat.node}])
