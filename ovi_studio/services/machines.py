"""The engines and machines of a queue, and how fast they are: for estimates, the System tab and `farm status`."""

from ovi_studio.engine.slot import EngineSlot
from ovi_studio.farm.roster import TAKING, machines
from ovi_studio.queue.model import JobState
from ovi_studio.queue.schedule import Maker
from ovi_studio.queue.store import Store


def list_makers(store: Store) -> list[Maker]:
    """Return whoever takes jobs, and when each is free; the engine of this machine if nobody does at present."""
    running = store.jobs(states=[JobState.RUNNING])
    busy = {job.owner: job.progress.seconds_left or 0.0 for job in running if job.progress is not None}
    taking = {one.name: frozenset(one.variants) for one in machines(store.database) if one.state in TAKING}
    makers = []
    for engine in store.engines():
        slot = EngineSlot.of(engine.owner)
        left = busy.pop(engine.owner, 0.0)
        if slot.elsewhere:
            # One that takes no other job still ends its current one.
            makers.append(Maker(slot.name, taking.get(slot.title, frozenset()), left))
        elif slot.makes_clips:
            makers.append(Maker(slot.name, None, left))
    return makers if any(maker.variants != frozenset() for maker in makers) else [*makers, Maker()]
