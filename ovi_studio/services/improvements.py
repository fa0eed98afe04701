"""Queueing improvements: of clips of the library, and behind jobs whose clips may not be made yet. Imports no torch."""

import importlib.util
from collections.abc import Collection, Mapping
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


class Improvements:
    """The improvements of one studio. Methods may raise `JobError` with advice; all clips are queued, or none."""

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
    ) -> list[str]:
        """Queue improvements of clips of the library by their ids; returns the ids of the jobs.

        Args:
            wanted: `upscaler` and `fps`, see `Improvement`.
        """
        improvement = self._checked(clips, wanted)
        paths = {clip: self._library.path(clip) for clip in dict.fromkeys(clips)}
        orders = [self._of_file(path, improvement) for path in paths.values()]
        return self._store.add_improvements(orders, name, priority=priority)

    def improve_jobs(
        self, jobs: Collection[str], wanted: Mapping[str, Any], name: str = "", *, priority: int = 0
    ) -> list[str]:
        """Queue improvements of the clips of jobs; those of jobs that are not done wait for them."""
        improvement = self._checked(jobs, wanted)
        orders = [self._of_job(self._store.get(job), improvement) for job in dict.fromkeys(jobs)]
        return self._store.add_improvements(orders, name, priority=priority)

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
