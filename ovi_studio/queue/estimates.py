"""What a clip will cost on this machine, from what earlier ones did.

A variant's clips all have about the same number of pixels and frames, whatever their aspect ratio, so its name stands
for the size; a step costs about half without a negative pass, so that is the other half of the key.
"""

from dataclasses import asdict, dataclass

from ovi_studio.core.spec import ClipSpec
from ovi_studio.queue.database import Database


@dataclass(frozen=True)
class StepTimes:
    """Seconds of the phases of the last clip of one kind."""

    text: float
    step: float
    decode: float
    write: float

    def seconds(self, steps: int) -> float:
        """For a whole clip when the models are loaded."""
        return self.text + steps * self.step + self.decode + self.write


@dataclass(frozen=True)
class QueueEstimate:
    """Seconds for all jobs that wait; the jobs of kinds that were never made are left out and counted."""

    seconds: float
    unmeasured: int


def remember_pace(database: Database, spec: ClipSpec, pace: StepTimes) -> None:
    """Keep what a clip took."""
    database.put_setting(_key(spec.variant, spec.guided), asdict(pace))


def recall_pace(database: Database, spec: ClipSpec) -> StepTimes | None:
    """What the last clip of this kind took."""
    return _recall(database, spec.variant, spec.guided)


def estimate_clip(database: Database, spec: ClipSpec) -> float | None:
    """Seconds for one clip when the models are loaded; None if none of its kind was made here."""
    pace = recall_pace(database, spec)
    return None if pace is None else pace.seconds(spec.steps)


def estimate_queue(database: Database) -> QueueEstimate:
    """Seconds for all jobs that wait; what is left of those that run stands in their progress."""
    with database.read() as connection:
        kinds = connection.execute(
            "SELECT variant, guided, COUNT(*) AS jobs, SUM(steps) AS steps FROM jobs WHERE state = 'queued' "
            "GROUP BY variant, guided"
        ).fetchall()
    seconds, unmeasured = 0.0, 0
    for kind in kinds:
        pace = _recall(database, kind["variant"], bool(kind["guided"]))
        if pace is None:
            unmeasured += kind["jobs"]
        else:
            seconds += pace.seconds(0) * kind["jobs"] + pace.step * kind["steps"]
    return QueueEstimate(seconds, unmeasured)


def _recall(database: Database, variant: str, guided: bool) -> StepTimes | None:
    values = database.setting(_key(variant, guided))
    return None if values is None else StepTimes(**values)


def _key(variant: str, guided: bool) -> str:
    return f"pace/{variant}/{'guided' if guided else 'plain'}"
