"""Several ranks that make a clip together: the leader tells what to make and how it goes on, the others follow.

Every rank does the same for the same spec. Where the clip's progress is told, the leader asks its own sink whether to
go on and passes the answer on; these are the places where a clip can be stopped. At its end all ranks compare how it
ended: if they differ, or if one had an error that was not agreed on, they are out of step and the process must end.
"""

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from ovi_studio.core.clip import Clip
from ovi_studio.core.errors import JobError, Stopped, is_out_of_memory
from ovi_studio.core.signals import ending_signals
from ovi_studio.core.spec import ClipSpec
from ovi_studio.distributed.ranks import Group, Ranks
from ovi_studio.queue.model import ClipPhase
from ovi_studio.runtime.progress import ProgressSink

if TYPE_CHECKING:
    from torch import Tensor

Produce = Callable[[ClipSpec, ProgressSink], Clip]
"""Makes a clip on this rank; raises what the sink raises."""


def run_leader(produce: Produce, ranks: Group, spec: ClipSpec, progress: ProgressSink) -> Clip:
    """Make a clip together with the others, who `run_follower`.

    Raises what `produce` raises; after anything but `JobError` and `Stopped` the ranks are out of step. `MemoryError`:
    a rank is gone because it had no memory left.
    """
    ranks.await_word(spec)
    try:
        return _produce_together(produce, ranks, spec, _LeadersSink(progress, ranks))
    except (JobError, Stopped):
        raise
    except Exception as error:
        # A rank that is gone may be noticed here as a broken connection; what matters is why it went.
        if ranks.lacked_memory():
            raise MemoryError("a rank has no memory left") from error
        raise


def run_follower(produce: Produce, ranks: Group) -> None:
    """Make what the leader makes until it has nothing more to say."""
    for number in ending_signals():
        signal.signal(number, signal.SIG_IGN)  # the leader gets them too, and decides
    while (spec := ranks.await_word()) is not None:
        try:
            _produce_together(produce, ranks, spec, _FollowersSink(ranks))
        except (JobError, Stopped):
            continue  # the leader deals with it
        except Exception as error:
            if is_out_of_memory(error):
                ranks.note_lack_of_memory()
            raise
    ranks.close()


def dismiss(ranks: Group) -> None:
    """Let the others go; only while they are in step."""
    ranks.await_word(None)
    ranks.close()


def _produce_together(produce: Produce, ranks: Ranks, spec: ClipSpec, progress: ProgressSink) -> Clip:
    try:
        clip = produce(spec, progress)
    except (JobError, Stopped) as error:
        _compare(ranks, f"{type(error).__name__} {error}")
        raise
    _compare(ranks, "done")
    return clip


def _compare(ranks: Ranks, outcome: str) -> None:
    outcomes = ranks.everybody(outcome)
    if len(set(outcomes)) > 1:
        raise RuntimeError(f"The ranks are out of step: one clip ended as {', '.join(map(repr, outcomes))}.")


class _LeadersSink:
    """Passes on to the others whether the leader's own sink wants to go on."""

    def __init__(self, progress: ProgressSink, ranks: Ranks) -> None:
        self._progress = progress
        self._ranks = ranks

    def phase(self, phase: ClipPhase) -> None:
        self._ask(lambda: self._progress.phase(phase))

    def step(self, index: int, total: int, latents: "Tensor | None" = None) -> None:
        self._ask(lambda: self._progress.step(index, total, latents))

    def decoded(self, fraction: float) -> None:
        self._ask(lambda: self._progress.decoded(fraction))

    def _ask(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Stopped:
            self._ranks.tell(False)
            raise
        self._ranks.tell(True)


class _FollowersSink:
    """Hears from the leader whether to go on."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks

    def phase(self, phase: ClipPhase) -> None:
        self._listen()

    def step(self, index: int, total: int, latents: "Tensor | None" = None) -> None:
        self._listen()

    def decoded(self, fraction: float) -> None:
        self._listen()

    def _listen(self) -> None:
        if not self._ranks.tell():
            raise Stopped
