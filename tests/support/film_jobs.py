"""Making the jobs of films without a model."""

import numpy as np

from ovi_studio.core.clip import Clip
from ovi_studio.media import clip_files
from ovi_studio.queue.files import clip_name
from ovi_studio.queue.work import EngineSession
from ovi_studio.services.studio import Studio


def make_all(studio: Studio) -> list[str]:
    """Make the clips of all jobs that can start; returns their prompts."""
    made = []
    with EngineSession(studio.store.database, "worker") as work:
        while (job := work.claim()) is not None:
            frames = np.stack([np.full((32, 32, 3), level % 256, np.uint8) for level in (0, job.number)])
            clip = Clip(job.spec, frames, np.zeros(1400, np.float32), record={"job": job.id})
            name = clip_name(job.number, job.id, job.spec.prompt)
            work.finish(job, clip_files.write_clip(clip, studio.paths.outputs, name), 1.0)
            made.append(job.spec.prompt)
    return made
