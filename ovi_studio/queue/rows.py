"""Conversion between database rows and the types of `model`.

File names are stored without folders, so that a studio can be moved as a whole.
"""

import json
import sqlite3
from pathlib import Path
from typing import Any

from ovi_studio.core.improvement import Improvement
from ovi_studio.core.spec import ClipSpec
from ovi_studio.queue.model import (
    ClipPhase,
    ClipToImprove,
    Dependency,
    EngineInfo,
    EngineState,
    Job,
    JobProgress,
    JobState,
)
from ovi_studio.queue.paths import StudioPaths

JOBS = "SELECT jobs.*, batches.name AS batch_name FROM jobs JOIN batches ON batches.id = jobs.batch"

NO_PROGRESS = (
    "owner = NULL, phase = NULL, step = NULL, total = NULL, seconds_per_step = NULL, seconds_left = NULL, "
    "part = NULL, preview = NULL"
)
"""Resets the columns that only a running job has."""


def spec_columns(spec: ClipSpec) -> dict[str, Any]:
    """The columns for a spec, whose picture must already be stored (`files.keep_picture`)."""
    values = spec.to_dict() | {"image": None if spec.image is None else spec.image.name}
    return {
        "spec": json.dumps(values, ensure_ascii=False),
        "variant": spec.variant,
        # Only estimates read this column.
        "steps": spec.evaluated_steps,
        "guided": spec.guided,
    }


def spec_of(row: sqlite3.Row, paths: StudioPaths) -> ClipSpec:
    """Inverse of `spec_columns`."""
    values = json.loads(row["spec"])
    if values["image"] is not None:
        # Only the name is used, whatever the database contains.
        values["image"] = paths.pictures / Path(values["image"]).name
    return ClipSpec.from_record(values)


def job_of(row: sqlite3.Row, paths: StudioPaths, dependency: Dependency | None = None) -> Job:
    """Convert a row of `JOBS`; `dependency` is in other rows (`dependencies.jobs_of`)."""
    return Job(
        id=row["id"],
        number=row["number"],
        batch=row["batch"],
        batch_name=row["batch_name"],
        state=JobState(row["state"]),
        priority=row["priority"],
        position=row["position"],
        spec=spec_of(row, paths),
        attempt=row["attempt"],
        cancelling=bool(row["cancel"]) and row["state"] == JobState.RUNNING,
        owner=row["owner"],
        progress=_progress_of(row, paths),
        error=row["error"],
        note=row["note"],
        clip=None if row["clip"] is None else paths.outputs / Path(row["clip"]).name,
        created=row["created"],
        started=row["started"],
        finished=row["finished"],
        seconds=row["seconds"],
        parent=row["parent"],
        dependency=dependency,
        improves=_improves(row, paths),
        made_by=row["made_by"],
    )


def _improves(row: sqlite3.Row, paths: StudioPaths) -> ClipToImprove | None:
    if row["improvement"] is None:
        return None
    clip = None if row["parent_clip"] is None else paths.outputs / Path(row["parent_clip"]).name
    return ClipToImprove(Improvement.from_dict(json.loads(row["improvement"])), row["pixels"], clip)


def engine_of(row: sqlite3.Row) -> EngineInfo:
    """Convert a row of `engines`."""
    return EngineInfo(
        owner=row["owner"],
        pid=row["pid"],
        supervised=bool(row["supervised"]),
        state=EngineState(row["state"]),
        ready=bool(row["ready"]),
        variant=row["variant"],
        stopping=bool(row["stop"]),
        started=row["started"],
    )


def _progress_of(row: sqlite3.Row, paths: StudioPaths) -> JobProgress | None:
    if row["phase"] is None:
        return None
    return JobProgress(
        phase=ClipPhase(row["phase"]),
        step=row["step"],
        total=row["total"],
        seconds_per_step=row["seconds_per_step"],
        seconds_left=row["seconds_left"],
        fraction=row["part"],
        preview=None if row["preview"] is None else paths.previews / Path(row["preview"]).name,
    )
