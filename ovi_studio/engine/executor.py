"""`Executor`: makes the clips of the engine's jobs, in this process and its ranks, or on another machine.

The engine knows nothing else of where clips are made: it claims a job that its executor can make, passes it on, and
writes the files and the job's end itself. `LocalExecutor` is the `ClipRunner` of this process; `farm.executor` is that
of another machine. Imports no torch.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Protocol

from ovi_studio.checkpoints.layout import complete_variants
from ovi_studio.core.clip import Frames
from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.variants import Variant, known_variants
from ovi_studio.media.clip_files import EncodedClip, encode_clip
from ovi_studio.queue.model import ClipPhase
from ovi_studio.runtime.clip_runner import ClipRunner
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.runtime.progress import ProgressSink
from ovi_studio.runtime.step_down import StepDown, out_of_memory_advice


class ExecutorFault(JobError):
    """The executor and not the job is the cause: the job goes back to the queue, and the engine ends."""


@dataclass(frozen=True)
class ClipFacts:
    """What a clip's recipe says that its spec does not."""

    job: str
    source: str | None = None
    """How the recipe names the clip's source, see `clip_files.source_name`."""
    machine: str | None = None
    """The name of the machine that makes the clip, if it is not that of the page."""


@dataclass(frozen=True, eq=False)
class MadeClip:
    """A clip that an executor has made. Compared by identity."""

    files: EncodedClip
    frames: Frames
    """Those that previews learn from."""


class Executor(Protocol):
    """Makes clips, one at a time. Methods raise `ExecutorFault` if the executor can make no more."""

    @property
    def variant(self) -> str | None:
        """The variant whose models are loaded."""

    @property
    def usable(self) -> bool:
        """Whether more clips can be made; if not, the engine ends after its job."""

    @property
    def steps_down_itself(self) -> bool:
        """Whether `step_down` works; otherwise a new engine must start."""

    def variants(self) -> Collection[str] | None:
        """Return the variants whose jobs to claim; None for all."""

    def make(self, spec: ClipSpec, progress: ProgressSink, facts: ClipFacts) -> MadeClip:
        """Make and encode a clip. Raises `JobError`, `MemoryError`, and what `progress` raises."""

    def next_step_down(self) -> StepDown | None:
        """Return options that need less memory than those that were tried last; None if there are none."""

    def step_down(self, step: StepDown) -> None:
        """Load models with less memory from now on."""

    def memory_advice(self, spec: ClipSpec, below: StepDown | None) -> str:
        """Return the reason for a job that failed because memory ran out."""

    def on_peer_loss(self, call: Callable[[bool], None]) -> None:
        """See `ClipRunner.on_peer_loss`."""

    def close(self) -> None:
        """End what makes the clips."""


class LocalExecutor:
    """The `Executor` of this process and its ranks.

    Args:
        only_complete: claim only jobs whose models are complete here, since other machines may have the others.
    """

    def __init__(self, runner: ClipRunner, *, only_complete: bool = False) -> None:
        self._runner = runner
        self._only_complete = only_complete

    @property
    def options(self) -> RuntimeOptions:
        """How the models compute."""
        return self._runner.options

    @property
    def variant(self) -> str | None:
        """See `Executor`."""
        return self._runner.variant

    @property
    def usable(self) -> bool:
        """See `Executor`."""
        return self._runner.in_step

    @property
    def steps_down_itself(self) -> bool:
        """See `Executor`."""
        return self._runner.alone

    def variants(self) -> Collection[str] | None:
        """See `Executor`."""
        if not self._only_complete:
            return None
        return [variant.name for variant in complete_variants(self.options.checkpoints)]

    def make(self, spec: ClipSpec, progress: ProgressSink, facts: ClipFacts) -> MadeClip:
        """See `Executor`."""
        clip = self._runner.run(spec, progress)
        progress.phase(ClipPhase.WRITING)
        record = {**clip.record, "job": facts.job}
        if facts.machine is not None:
            record["machine"] = {**record.get("machine", {}), "name": facts.machine}
        return MadeClip(encode_clip(replace(clip, record=record), facts.source), clip.frames)

    def next_step_down(self) -> StepDown | None:
        """See `Executor`."""
        return self._runner.next_step_down()

    def step_down(self, step: StepDown) -> None:
        """See `Executor`."""
        self._runner.step_down(step)

    def memory_advice(self, spec: ClipSpec, below: StepDown | None) -> str:
        """See `Executor`."""
        return memory_advice(self.options, spec, below)

    def on_peer_loss(self, call: Callable[[bool], None]) -> None:
        """See `Executor`."""
        self._runner.on_peer_loss(call)

    def close(self) -> None:
        """See `Executor`."""
        self._runner.close()


def memory_advice(options: RuntimeOptions, spec: ClipSpec, below: StepDown | None) -> str:
    """Return the reason for a job that failed because memory ran out with these options."""
    return out_of_memory_advice(
        below,
        offloaded=options.offloaded,
        smaller=_smaller_variants(spec, options),
        automatic="let the queue do so automatically (System tab)",
    )


def _smaller_variants(spec: ClipSpec, options: RuntimeOptions) -> list[str]:
    """Return the names of complete variants with smaller clips than the one in the spec."""

    def size(variant: Variant) -> int:
        return variant.pixel_area * variant.video_latent_frames

    requested = known_variants(options.checkpoints).get(spec.variant)
    if requested is None:
        return []
    return [v.name for v in complete_variants(options.checkpoints) if size(v) < size(requested)]
