"""The engine: a process that takes jobs from the store, in the queue's order, and makes their clips.

The models stay loaded until a job needs others. The store is the only channel: progress goes there after every step,
and whether to go on comes back. What a person can put right fails the job, running out of memory too; anything else
ends the process with its traceback in the log, and the supervisor starts another. A folder that cannot take the clip is
not the job's fault: the job stays and the queue is paused with a notice.

Asked to end, by the store or by a signal, it stops after the current step and gives its job back; a clip whose last
step is done is finished first. One that a supervisor started also ends by itself when nothing waits and no page is
there any more, so that it does not keep the GPU for nobody.
"""

import logging
import logging.handlers
import secrets
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ovi_studio.checkpoints.layout import complete_variants
from ovi_studio.core.errors import FolderError, JobError, Stopped
from ovi_studio.core.signals import ending_signals
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.variants import Variant, known_variants
from ovi_studio.distributed.ranks import join_ranks, launched
from ovi_studio.engine.monitor import JobMonitor
from ovi_studio.engine.slot import EngineSlot
from ovi_studio.media.clip_files import check_writable, write_clip
from ovi_studio.queue.database import Database
from ovi_studio.queue.estimates import record_phase_times
from ovi_studio.queue.files import clip_name
from ovi_studio.queue.locks import is_held
from ovi_studio.queue.model import ClipPhase, EngineState, Job, Verdict
from ovi_studio.queue.paths import StudioPaths
from ovi_studio.queue.recovery import recover_dead_engines
from ovi_studio.queue.store import FALLBACK_LEVEL, PAUSED, Store, memory_fallback_enabled
from ovi_studio.queue.work import EngineSession
from ovi_studio.runtime.clip_runner import OVI_MODELS, ClipRunner
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.runtime.preview import Previewer
from ovi_studio.runtime.settings import read_settings
from ovi_studio.runtime.way_down import StepDown, made_with_less, shortage_advice, steps_below_sharding

if TYPE_CHECKING:
    import numpy as np

POLL_SECONDS = 0.25
PATROL_SECONDS = 5.0
"""How often an idle engine looks for dead ones."""
LOG_BYTES = 2 * 2**20
_RETRY_SECONDS = (1, 5, 30)

log = logging.getLogger(__name__)


def run(
    paths: StudioPaths,
    options: RuntimeOptions,
    *,
    models: str = OVI_MODELS,
    owner: str | None = None,
    supervised: bool = False,
) -> None:
    """Serve the queue until asked to end.

    Args:
        models: `module:class` of where models come from.
        owner: name in the store, unique; drawn unless given.
        supervised: started by a supervisor, so that the log is all it writes.
    """
    if launched() and not join_ranks().is_leader:
        _runner(options, Database(paths), models).follow()
        return
    paths.prepare()
    owner = owner or f"engine-{secrets.token_hex(4)}"
    _start_log(EngineSlot.of(owner).file(paths.log), to_terminal=not supervised)
    stop = threading.Event()
    _obey_signals(stop)
    try:
        database = Database(paths)
        recover_dead_engines(database)
        with EngineSession(database, owner, supervised=supervised) as work:
            if supervised and _has_elder(work):
                log.info("Another engine serves this queue; this one ends.")
                return
            runner = _runner(options, database, models)
            log.info("The engine %s starts with %s", work.owner, " ".join(runner.options.arguments()) or "no options")
            Engine(work, runner, stop, supervised=supervised).serve()
            runner.close()
            log.info("The engine %s ends in order.", work.owner)
    except Exception:
        log.exception("The engine ends because of this:")
        raise


def _runner(options: RuntimeOptions, database: Database, models: str) -> ClipRunner:
    """With what was chosen on the page, and what the lack of memory on several GPUs has led to."""
    options = options.over(read_settings(database).options)
    ranks = join_ranks()
    lacked: tuple[str, ...] = ()
    if ranks.count > 1:
        options, lacked = steps_below_sharding(options, database.setting(FALLBACK_LEVEL, 0))
    return ClipRunner(options, models=models, ranks=ranks, lacked=lacked)


class Engine:
    """Takes jobs and makes them."""

    def __init__(
        self,
        work: EngineSession,
        runner: ClipRunner,
        stop: threading.Event,
        *,
        supervised: bool = False,
    ) -> None:
        self._work = work
        self._paths = work.database.paths
        self._runner = runner
        self._stop = stop
        self._supervised = supervised
        self._previewer = Previewer(work.database)
        self._said: tuple[EngineState, str | None] | None = None
        self._patrolled = time.monotonic()
        self._job: Job | None = None
        runner.on_peer_loss(self._lose_rank)

    def serve(self) -> None:
        """Make clips until asked to end."""
        while not self._stopping():
            try:
                job = self._work.claim()
                self._say(EngineState.WORKING if job else EngineState.IDLE)
                if job is None:
                    if self._unneeded():
                        return
                    self._patrol()
            except JobError as error:
                log.warning("The queue cannot be used: %s", error)
                self._stop.wait(_RETRY_SECONDS[1])
                continue
            if job is None:
                self._stop.wait(POLL_SECONDS)
            else:
                self._work_on(job)

    def _work_on(self, job: Job) -> None:
        log.info("Job %d (%s), attempt %d, begins.", job.number, job.id, job.attempt)
        self._job = job
        ending = self._attempt(job)
        self._job = None
        if not self._persist(ending):
            log.warning("Job %d was not this engine's any more when it ended.", job.number)
        if not self._runner.in_step:
            raise RuntimeError("The ranks are out of step after this error; the engine has to start anew.")

    def _lose_rank(self, lacked_memory: bool) -> None:
        """A rank is gone, and this process goes in a moment; the job would be tried again as it is."""
        job = self._job
        if lacked_memory and job is not None:
            self._without_memory(job)()

    def _attempt(self, job: Job) -> Callable[[], bool]:
        """Make the clip; returns the transition to write."""
        watch = JobMonitor(self._work, job, self._previewer, self._stop.is_set)
        start = time.monotonic()
        try:
            check_writable(self._paths.outputs)  # before minutes of loading and computing
            clip = self._runner.run(job.spec, watch)
            watch.phase(ClipPhase.WRITING)
            named = replace(clip, record={**clip.record, "job": job.id})
            path = write_clip(named, self._paths.outputs, clip_name(job.number, job.id, job.spec.prompt))
        except Stopped:
            endings = {Verdict.CANCEL: self._work.cancelled, Verdict.STOP: self._work.release}
            return partial(endings.get(watch.verdict, lambda _: False), job)
        except FolderError as error:
            return partial(self._hold, job, str(error))
        except JobError as error:
            log.warning("Job %d failed: %s", job.number, error)
            return partial(self._work.fail, job, str(error))
        except MemoryError:
            return self._without_memory(job)
        return partial(self._finish, job, path.name, time.monotonic() - start, watch, clip.frames)

    def _without_memory(self, job: Job) -> Callable[[], bool]:
        """Try a job again with less; fail it with advice if nothing takes less, or if that is forbidden."""
        below = self._runner.way_down()
        # Several GPUs need an engine that starts anew, and nobody starts one after an engine that a person started.
        possible = self._runner.alone or self._supervised
        if below is None or not possible or not memory_fallback_enabled(self._work.database):
            return partial(self._work.fail, job, self._memory_advice(job.spec, below))
        log.warning("Job %d is made again %s.", job.number, below.has)
        return partial(self._try_with_less, job, below)

    def _try_with_less(self, job: Job, below: StepDown) -> bool:
        released = self._work.release(job, f"Made {below.has}: memory ran out {below.had}.")
        if self._runner.alone:
            self._runner.step_down(below)
        else:
            level = self._work.database.setting(FALLBACK_LEVEL, 0)
            self._work.database.put_setting(FALLBACK_LEVEL, level + 1)
        self._work.database.add_notice(made_with_less(job.number, below))
        return released

    def _finish(self, job: Job, name: str, seconds: float, watch: JobMonitor, frames: "np.ndarray") -> bool:
        finished = self._work.finish(job, self._paths.outputs / name, seconds)
        log.info("Job %d is done after %.1f s: %s", job.number, seconds, name)
        try:
            if (pace := watch.pace()) is not None:
                record_phase_times(self._work.database, job.spec, pace)
            if watch.latents is not None:
                self._previewer.learn(job.spec.variant, watch.latents, frames)
        except JobError as error:
            log.warning("What job %d took could not be kept: %s", job.number, error)
        return finished

    def _hold(self, job: Job, reason: str) -> bool:
        log.warning("The queue is paused: %s", reason)
        if not self._work.database.setting(PAUSED, False):
            self._work.database.put_setting(PAUSED, True)
            self._work.database.add_notice(f"The queue was paused. {reason} Then resume the queue.")
        return self._work.release(job)

    def _persist(self, transition: Callable[[], bool]) -> bool:
        """Write a transition, also if the disk takes it only later."""
        for delay in _RETRY_SECONDS:
            try:
                return transition()
            except JobError as error:
                log.warning("A job's end could not be written: %s", error)
                self._stop.wait(delay)
        # The last word: if this fails too, the engine ends, and the clip is found in the library by the next one.
        return transition()

    def _say(self, state: EngineState) -> None:
        if self._said != (state, self._runner.variant):
            self._work.announce(state, self._runner.variant)
            self._said = (state, self._runner.variant)

    def _stopping(self) -> bool:
        if self._work.database.replaced():
            raise RuntimeError(f"{self._paths.database} is not the file any more that was opened")
        return self._stop.is_set() or self._work.stop_requested()

    def _unneeded(self) -> bool:
        return self._supervised and not is_held(self._paths.web_lock) and not self._work.waiting()

    def _patrol(self) -> None:
        if time.monotonic() - self._patrolled > PATROL_SECONDS:
            self._patrolled = time.monotonic()
            recover_dead_engines(self._work.database, own=self._work.owner)

    def _memory_advice(self, spec: ClipSpec, below: StepDown | None) -> str:
        smaller = _smaller_variants(spec, self._runner.options)
        by_itself = "let the queue do so by itself (System tab)"
        return shortage_advice(below, offloaded=self._runner.options.offloaded, smaller=smaller, by_itself=by_itself)


def _has_elder(work: EngineSession) -> bool:
    """Whether another supervised engine was there first and lives: the page that started it was killed at once."""
    engines = Store(work.database).engines()
    elders = engines[[engine.owner for engine in engines].index(work.owner) + 1 :]
    slot = EngineSlot.of(work.owner)
    return any(
        elder.supervised and slot.owns(elder.owner) and is_held(work.database.paths.owners / f"{elder.owner}.lock")
        for elder in elders
    )


def _smaller_variants(spec: ClipSpec, options: RuntimeOptions) -> list[str]:
    def size(variant: Variant) -> int:
        return variant.pixel_area * variant.video_latent_frames

    asked = known_variants(options.checkpoints).get(spec.variant)
    if asked is None:
        return []
    return [v.name for v in complete_variants(options.checkpoints) if size(v) < size(asked)]


def _start_log(path: Path, *, to_terminal: bool) -> None:
    file = logging.handlers.RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8")
    handlers: list[logging.Handler] = [file]
    if to_terminal:
        handlers.append(logging.StreamHandler())
    form = logging.Formatter("%(asctime)s %(process)d %(levelname)s %(message)s")
    root = logging.getLogger()
    for handler in handlers:
        handler.setFormatter(form)
        root.addHandler(handler)
    logging.getLogger("ovi_studio").setLevel(logging.INFO)


def _obey_signals(stop: threading.Event) -> None:
    def obey(number: int, frame: object) -> None:
        stop.set()
        # Who asks a second time does not want to wait for the step.
        signal.signal(number, signal.SIG_DFL)

    if threading.current_thread() is threading.main_thread():
        for number in ending_signals():
            signal.signal(number, obey)
