"""The engine: a process that takes jobs from the store, in queue order, and makes their clips.

The models stay loaded until a job needs others. The store is the only channel: the engine writes progress after every
step, and reads whether to continue. Errors that a person can fix, and running out of memory, fail the job; any other
error ends the process with its traceback in the log, and the supervisor starts another. If the output folder is not
writable, the job stays in the queue, which is paused with a notice.

Asked to end, by the store or by a signal, the engine stops after the current step and returns its job to the queue; a
clip whose last step is done is finished first. A supervised engine also ends when no job waits and the page is gone, so
that it does not occupy the GPU for nothing.
"""

import contextlib
import logging
import secrets
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ovi_studio.core.clip import Frames
from ovi_studio.core.compiler_cache import keep_compiled_code
from ovi_studio.core.errors import FolderError, JobError, Stopped
from ovi_studio.core.log_lines import start_log
from ovi_studio.core.signals import ending_signals
from ovi_studio.core.spec import ClipSpec
from ovi_studio.distributed.ranks import join_ranks, launched
from ovi_studio.engine.drawing import Draw, draw_candidates
from ovi_studio.engine.executor import ClipFacts, Executor, ExecutorFault, LocalExecutor
from ovi_studio.engine.improving import ImprovementMonitor, JobImprover
from ovi_studio.engine.monitor import JobMonitor
from ovi_studio.engine.slot import EngineSlot
from ovi_studio.engine.take_checks import TakeChecks, check_command
from ovi_studio.media.clip_files import check_writable, source_name, write_encoded
from ovi_studio.queue.database import Database
from ovi_studio.queue.drawings import claim_candidates
from ovi_studio.queue.estimates import record_compilation, record_drawing, record_improvement, record_phase_times
from ovi_studio.queue.files import clip_name
from ovi_studio.queue.locks import is_held
from ovi_studio.queue.model import ClipToImprove, EngineState, Job, Verdict
from ovi_studio.queue.paths import StudioPaths
from ovi_studio.queue.recovery import recover_dead_engines
from ovi_studio.queue.store import FALLBACK_LEVEL, PAUSED, Store, memory_fallback_enabled
from ovi_studio.queue.work import EngineSession
from ovi_studio.runtime.clip_runner import OVI_MODELS, ClipRunner
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.runtime.preview import Previewer
from ovi_studio.runtime.settings import read_settings
from ovi_studio.runtime.step_down import StepDown, step_down_notice, steps_below_sharding

POLL_SECONDS = 0.25
PATROL_SECONDS = 5.0
"""How often an idle engine looks for dead engines."""
_RETRY_SECONDS = (1, 5, 30)

log = logging.getLogger(__name__)


def run(
    paths: StudioPaths,
    options: RuntimeOptions,
    *,
    models: str = OVI_MODELS,
    owner: str | None = None,
    supervised: bool = False,
    shared: bool = False,
) -> None:
    """Serve the queue until asked to end.

    Args:
        models: `module:class` of the model source.
        owner: unique name in the store; random unless given.
        supervised: whether a supervisor started this engine, which then writes only to the log file.
        shared: whether to leave jobs whose models are not complete here to other machines.
    """
    keep_compiled_code(paths.compiled)
    if launched() and not join_ranks().is_leader:
        _runner(options, Database(paths), models).follow()
        return
    paths.prepare()
    owner = owner or f"engine-{secrets.token_hex(4)}"
    start_log(EngineSlot.of(owner).file(paths.log), to_terminal=not supervised)
    stop = threading.Event()
    stop_on_signals(stop)
    try:
        database = Database(paths)
        recover_dead_engines(database)
        with EngineSession(database, owner, supervised=supervised) as work:
            if supervised and _is_superfluous(work):
                log.info("Another engine already serves this queue; this one ends.")
                return
            runner = _runner(options, database, models)
            executor = LocalExecutor(runner, only_complete=shared)
            log.info("Engine %s starts with %s.", work.owner, " ".join(executor.options.arguments()) or "no options")
            # A page that supervises has takes checked itself.
            with contextlib.nullcontext() if supervised else TakeChecks(Store(database), check_command(paths, options)):
                improver = JobImprover(paths, runner)
                Engine(work, executor, stop, supervised=supervised, improver=improver, draw=runner.draw).serve()
            executor.close()
            log.info("Engine %s ends.", work.owner)
    except Exception:
        log.exception("The engine ends because of an unexpected error:")
        raise


def _runner(options: RuntimeOptions, database: Database, models: str) -> ClipRunner:
    """Return a runner with the settings of the page, and with the fallbacks of several GPUs that ran out of memory."""
    options = options.over(read_settings(database).options)
    ranks = join_ranks()
    exhausted: tuple[str, ...] = ()
    if ranks.count > 1:
        options, exhausted = steps_below_sharding(options, database.setting(FALLBACK_LEVEL, 0))
    return ClipRunner(options, models=models, ranks=ranks, exhausted=exhausted)


class Engine:
    """Takes jobs from the queue and has their clips made.

    Args:
        patrols: whether to look for dead engines while there is nothing to do.
        improver: for jobs that improve clips; None: this engine claims none.
        draw: for jobs whose first frame is to be drawn (`ClipRunner.draw`); None: this engine claims none.
    """

    def __init__(
        self,
        work: EngineSession,
        executor: Executor,
        stop: threading.Event,
        *,
        supervised: bool = False,
        patrols: bool = True,
        improver: JobImprover | None = None,
        draw: Draw | None = None,
    ) -> None:
        self._work = work
        self._paths = work.database.paths
        self._executor = executor
        self._stop = stop
        self._supervised = supervised
        self._patrols = patrols
        self._improver = improver
        self._draw = draw
        self._previewer = Previewer(work.database)
        self._announced: tuple[EngineState, str | None] | None = None
        self._patrolled = time.monotonic()
        self._job: Job | None = None
        executor.on_peer_loss(self._on_peer_loss)

    def serve(self) -> None:
        """Make clips until asked to end."""
        while not self._stopping():
            try:
                if self._drew_candidates():
                    continue
                job = self._claim()
                self._announce(EngineState.WORKING if job else EngineState.IDLE)
                if job is None:
                    if self._unneeded():
                        return
                    self._patrol()
            except JobError as error:
                log.warning("The queue is not accessible: %s", error)
                self._stop.wait(_RETRY_SECONDS[1])
                continue
            if job is None:
                self._stop.wait(POLL_SECONDS)
            else:
                self._work_on(job)

    def _drew_candidates(self) -> bool:
        """Draw the pictures that somebody wants to choose from; returns whether there were any to draw."""
        request = None if self._draw is None else claim_candidates(self._work.database, self._work.owner)
        if request is None or self._draw is None:
            return False
        self._announce(EngineState.WORKING)
        draw_candidates(self._work.database, request, self._draw, self._stopping)
        return True

    def _claim(self) -> Job | None:
        # The executor may have to look for its models, so only if there is something to make.
        if not self._work.waiting():
            return None
        return self._work.claim(
            self._executor.variants(), improves=self._improver is not None, draws=self._draw is not None
        )

    def _work_on(self, job: Job) -> None:
        log.info("Job %d (%s), attempt %d, starts.", job.number, job.id, job.attempt)
        self._job = job
        ending = self._attempt(job)
        self._job = None
        if not self._persist(ending):
            log.warning("Job %d no longer belonged to this engine when it ended.", job.number)
        if not self._executor.usable:
            raise RuntimeError("No more clips can be made after this error; the engine must restart.")

    def _on_peer_loss(self, out_of_memory: bool) -> None:
        """Handle the loss of a rank, before this process ends: without this, the job would be tried again unchanged."""
        job = self._job
        if out_of_memory and job is not None:
            self._after_out_of_memory(job)()

    def _attempt(self, job: Job) -> Callable[[], bool]:
        """Make the clip, or improve one; returns the transition to write."""
        try:
            return self._try_once(job)
        except ExecutorFault as error:
            log.warning("Job %d goes back to the queue: %s", job.number, error)
            return partial(self._work.release, job)

    def _try_once(self, job: Job) -> Callable[[], bool]:
        monitor: JobMonitor | ImprovementMonitor
        try:
            check_writable(self._paths.outputs)  # before minutes of loading and computing
            if job.improves is not None and self._improver is not None:
                monitor = ImprovementMonitor(self._work, job, job.improves, self._stop.is_set)
                return self._improve(job, job.improves, self._improver, monitor)
            monitor = JobMonitor(self._work, job, self._previewer, self._stop.is_set)
            return self._make(job, monitor)
        except Stopped:
            endings = {Verdict.CANCEL: self._cancelled, Verdict.STOP: self._work.release}
            return partial(endings.get(monitor.verdict, lambda _: False), job)
        except FolderError as error:
            return partial(self._pause_queue, job, str(error))
        except ExecutorFault:
            raise
        except JobError as error:
            log.warning("Job %d failed: %s", job.number, error)
            return partial(self._work.fail, job, str(error))
        except MemoryError:
            return self._after_out_of_memory(job)

    def _make(self, job: Job, monitor: JobMonitor) -> Callable[[], bool]:
        start = time.monotonic()
        facts = ClipFacts(job.id, source_name(job.spec, self._paths.outputs))
        made = self._executor.make(self._drawn(job, monitor), monitor, facts)
        path = write_encoded(made.files, self._paths.outputs, clip_name(job.number, job.id, job.spec.prompt))
        return partial(self._finish, job, path.name, time.monotonic() - start, monitor, made.frames)

    def _drawn(self, job: Job, monitor: JobMonitor) -> ClipSpec:
        """Return the job's clip with the first frame that it asks for."""
        if job.spec.to_draw is None or self._draw is None:
            return job.spec
        # In a folder of its own: the same picture may be drawn by another engine, or be one to choose from.
        with tempfile.TemporaryDirectory(prefix="ovi-drawing-") as folder:
            kept = self._work.keep_drawn(job, self._draw(job.spec, Path(folder), monitor))
        if (times := monitor.end_drawing()) is not None:
            record_drawing(self._work.database, job.spec.to_draw, times, EngineSlot.of(self._work.owner).name)
        return kept

    def _improve(
        self, job: Job, improves: ClipToImprove, improver: JobImprover, monitor: ImprovementMonitor
    ) -> Callable[[], bool]:
        start = time.monotonic()
        path = improver.improve(job, improves, monitor)
        seconds = time.monotonic() - start
        if not monitor.resumed:
            record_improvement(self._work.database, improves, seconds)
        log.info("Job %d is done after %.1f s: %s", job.number, seconds, path.name)
        return partial(self._work.finish, job, path, seconds)

    def _cancelled(self, job: Job) -> bool:
        if job.improves is not None and self._improver is not None:
            self._improver.discard(job)
        return self._work.cancelled(job)

    def _after_out_of_memory(self, job: Job) -> Callable[[], bool]:
        """Try a job again with less memory; fail it with advice if that is not possible or not allowed."""
        below = self._executor.next_step_down()
        # Several GPUs need a new engine, and only a supervisor starts one.
        possible = self._executor.steps_down_itself or self._supervised
        if below is None or not possible or not memory_fallback_enabled(self._work.database):
            return partial(self._work.fail, job, self._executor.memory_advice(job.spec, below))
        log.warning("Job %d is made again %s.", job.number, below.after)
        return partial(self._try_with_less, job, below)

    def _try_with_less(self, job: Job, below: StepDown) -> bool:
        released = self._work.release(job, f"Made {below.after}: memory ran out {below.before}.")
        if self._executor.steps_down_itself:
            self._executor.step_down(below)
        else:
            level = self._work.database.setting(FALLBACK_LEVEL, 0)
            self._work.database.put_setting(FALLBACK_LEVEL, level + 1)
        self._work.database.add_notice(step_down_notice(job.number, below))
        return released

    def _finish(self, job: Job, name: str, seconds: float, monitor: JobMonitor, frames: Frames) -> bool:
        finished = self._work.finish(job, self._paths.outputs / name, seconds)
        log.info("Job %d is done after %.1f s: %s", job.number, seconds, name)
        try:
            maker = EngineSlot.of(self._work.owner).name
            if (pace := monitor.pace()) is not None:
                record_phase_times(self._work.database, job.spec, pace, maker, monitor.once())
            if (compilation := monitor.compilation()) is not None:
                record_compilation(self._work.database, compilation, maker)
            if monitor.latents is not None:
                self._previewer.learn(job.spec.variant, monitor.latents, frames)
        except JobError as error:
            log.warning("The timings of job %d could not be stored: %s", job.number, error)
        return finished

    def _pause_queue(self, job: Job, reason: str) -> bool:
        log.warning("The queue is paused: %s", reason)
        if not self._work.database.setting(PAUSED, False):
            self._work.database.put_setting(PAUSED, True)
            self._work.database.add_notice(f"The queue was paused. {reason} Then resume the queue.")
        return self._work.release(job)

    def _persist(self, transition: Callable[[], bool]) -> bool:
        """Write a transition; retry if the disk is not writable for a while."""
        for delay in _RETRY_SECONDS:
            try:
                return transition()
            except ExecutorFault:
                raise  # the queue was written, and nothing more can be asked of the executor
            except JobError as error:
                log.warning("The end of a job could not be written: %s", error)
                self._stop.wait(delay)
        # The last try: if this fails too, the engine ends, and the next engine finds the clip in the library.
        return transition()

    def _announce(self, state: EngineState) -> None:
        if self._announced != (state, self._executor.variant):
            self._work.announce(state, self._executor.variant)
            self._announced = (state, self._executor.variant)

    def _stopping(self) -> bool:
        if self._work.database.replaced():
            raise RuntimeError(f"{self._paths.database} was replaced by another file")
        return self._stop.is_set() or self._work.stop_requested()

    def _unneeded(self) -> bool:
        return self._supervised and not is_held(self._paths.web_lock) and not self._work.waiting()

    def _patrol(self) -> None:
        if self._patrols and time.monotonic() - self._patrolled > PATROL_SECONDS:
            self._patrolled = time.monotonic()
            recover_dead_engines(self._work.database, own=self._work.owner)


def _is_superfluous(work: EngineSession) -> bool:
    """Whether another supervised engine of this slot started earlier and lives: its page was killed at once."""
    engines = Store(work.database).engines()
    earlier = engines[[engine.owner for engine in engines].index(work.owner) + 1 :]
    slot = EngineSlot.of(work.owner)
    return any(
        other.supervised and slot.owns(other.owner) and is_held(work.database.paths.owners / f"{other.owner}.lock")
        for other in earlier
    )


def stop_on_signals(stop: threading.Event) -> None:
    """Set the event at the first signal that asks this process to end; a second one ends it at once."""

    def handle(number: int, frame: object) -> None:
        stop.set()
        # A second signal does not wait for the step.
        signal.signal(number, signal.SIG_DFL)

    if threading.current_thread() is threading.main_thread():
        for number in ending_signals():
            signal.signal(number, handle)
