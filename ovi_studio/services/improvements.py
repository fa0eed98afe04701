"""Queueing improvements: of clips of the library, and behind jobs whose clips may not be made yet. Imports no torch."""

import importlib.util
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ovi_studio.core.errors import JobError
from ovi_studio.core.improvement import Improvement
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.variants import find_variant
from ovi_studio.improve.upscaler_library import UpscalerLibrary
from ovi_studio.library import Library
from ovi_studio.media.remade_clip import StoredClip
from ovi_studio.queue.model import ImprovementOrder, Job, JobState
from ovi_studio.queue.store import Store
from ovi_studio.runtime.options import RuntimeOptions

MAX_CLIPS = 1000
"""Clips that are improved by one request."""
_MOST_REASONS = 5


@dataclass(frozen=True)
class QueuedImprovements:
    """What became of a request to improve clips."""

    jobs: list[str]
    """The new jobs, in the order of their clips; at least one."""
    refused: dict[str, str] = field(default_factory=dict)
    """Each clip or job that cannot be improved -> the reason, a sentence."""


class Improvements:
    """The improvements of one studio.

    What cannot be improved keeps nothing else out. Methods raise `JobError` with advice if that leaves nothing.
    """

    def __init__(self, store: Store, library: Library, options: RuntimeOptions) -> None:
        self._store = store
        self._library = library
        self._checkpoints = options.checkpoints
        self._upscalers = UpscalerLibrary(options.upscalers)

    @property
    def can_upscale(self) -> bool:
        """Whether the package that reads upscalers is installed."""
        return importlib.util.find_spec("spandrel") is not None

    def upscalers(self) -> list[str]:
        """The names to choose from."""
        return [entry.name for entry in self._upscalers.scan()]

    def improve_clips(
        self, clips: Collection[str], wanted: Mapping[str, Any], name: str = "", *, priority: int = 0
    ) -> QueuedImprovements:
        """Queue improvements of clips of the library by their ids.

        Args:
            wanted: `upscaler` and `fps`, see `Improvement`.
        """
        improvement = self._checked(clips, wanted)
        return self._queue(clips, lambda clip: self._of_file(self._library.path(clip), improvement), name, priority)

    def improve_jobs(
        self, jobs: Collection[str], wanted: Mapping[str, Any], name: str = "", *, priority: int = 0
    ) -> QueuedImprovements:
        """Queue improvements of the clips of jobs; those of jobs that are not done wait for them."""
        improvement = self._checked(jobs, wanted)
        return self._queue(jobs, lambda job: self._of_job(self._store.get(job), improvement), name, priority)

    def _queue(
        self, ids: Collection[str], order: Callable[[str], ImprovementOrder], name: str, priority: int
    ) -> QueuedImprovements:
        orders, refused = [], {}
        for one in dict.fromkeys(ids):
            try:
                orders.append(order(one))
            except JobError as error:
                refused[one] = str(error)
        if not orders:
            raise JobError(_sentences(list(dict.fromkeys(refused.values()))))
        return QueuedImprovements(self._store.add_improvements(orders, name, priority=priority), refused)

    def _checked(self, clips: Collection[str], wanted: Mapping[str, Any]) -> Improvement:
        if not 0 < len(clips) <= MAX_CLIPS:
            raise JobError(f"Choose 1 to {MAX_CLIPS} clips to improve.")
        improvement = self._upscalers.pin(Improvement.from_dict(wanted))
        if improvement.upscaler is not None and not self.can_upscale:
            raise JobError(
                "Upscaling needs the package spandrel on the machine of this app; docs/improve.md says how to install "
                "it."
            )
        return improvement

    def _of_file(self, path: Path, improvement: Improvement) -> ImprovementOrder:
        clip = StoredClip.open(path)
        clip.check_slower_than(improvement.fps)
        height, width = clip.size
        spec = ClipSpec.from_record({**clip.record["spec"], "image": None})
        return ImprovementOrder(spec, improvement, clip.frames * height * width, clip=path.name)

    def _of_job(self, job: Job, improvement: Improvement) -> ImprovementOrder:
        if job.clip is not None:
            return self._of_file(job.clip, improvement)
        if job.state in (JobState.FAILED, JobState.CANCELLED):
            raise JobError(f"Job {job.number} is {job.state} and has no clip to improve; retry it first.")
        if job.improves is not None:
            return ImprovementOrder(job.spec, improvement, job.improves.pixels, job=job.id)
        variant = find_variant(job.spec.variant, self._checkpoints)
        height, width = job.spec.size or variant.default_size
        return ImprovementOrder(job.spec, improvement, variant.frames * height * width, job=job.id)


def _sentences(reasons: Sequence[str]) -> str:
    rest = len(reasons) - _MOST_REASONS
    return " ".join([*reasons[:_MOST_REASONS], *([f"And {rest} more."] if rest > 0 else [])])
