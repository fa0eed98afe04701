"""Several ranks that make a clip together: the leader broadcasts the spec and whether to continue, the others follow.

Every rank does the same work for the same spec. Whenever progress is reported, the leader's own sink decides whether to
continue, and the leader broadcasts the decision; a clip can be stopped only at these points. At its end all ranks
compare the outcome: if it differs, or if one rank had an error that was not shared, they are out of step and the
process must end.
"""

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from ovi_studio.core.clip import Clip
from ovi_studio.core.errors import JobError, Stopped, is_out_of_memory
from ovi_studio.core.signals import ending_signals
from ovi_studio.core.spec import ClipSpec
from ovi_studio.distributed.ranks import RankGroup, Ranks
from ovi_studio.queue.model import ClipPhase
from ovi_studio.runtime.progress import ProgressSink

if TYPE_CHECKING:
    from torch import Tensor

Produce = Callable[[ClipSpec, ProgressSink], Clip]
"""Makes a clip on this rank; exceptions of the sink pass through."""


def run_leader(produce: Produce, ranks: RankGroup, spec: ClipSpec, progress: ProgressSink) -> Clip:
    """Make a clip together with the other ranks, which are in `run_follower`.

    Raises what `produce` raises; after anything but `JobError` and `Stopped` the ranks are out of step. Raises
    `MemoryError` if a rank ended because memory ran out.
    """
    ranks.broadcast_when_idle(spec)
    try:
        return _produce_together(produce, ranks, spec, _LeaderSink(progress, ranks))
    except (JobError, Stopped):
        raise
    except Exception as error:
        # A rank that has ended may show here as a broken connection; what matters is why it ended.
        if ranks.ran_out_of_memory():
            raise MemoryError("a rank ran out of memory") from error
        raise


def run_follower(produce: Produce, ranks: RankGroup) -> None:
    """Make the same clips as the leader until it dismisses the ranks."""
    for number in ending_signals():
        signal.signal(number, signal.SIG_IGN)  # the leader gets them too, and decides
    while (spec := _next_spec(ranks)) is not None:
        try:
            _produce_together(produce, ranks, spec, _FollowerSink(ranks))
        except (JobError, Stopped):
            continue  # the leader handles it
        except Exception as error:
            if is_out_of_memory(error):
                ranks.report_out_of_memory()
            raise
    ranks.close()


def dismiss(ranks: RankGroup) -> None:
    """End `run_follower` on the other ranks; only while they are in step."""
    ranks.broadcast_when_idle(None)
    ranks.close()


def _next_spec(ranks: RankGroup) -> ClipSpec | None:
    """Wait for what the leader broadcasts next; None: there are no more clips."""
    return ranks.broadcast_when_idle(None)


def _produce_together(produce: Produce, ranks: Ranks, spec: ClipSpec, progress: ProgressSink) -> Clip:
    try:
        clip = produce(spec, progress)
    except (JobError, Stopped) as error:
        _compare(ranks, f"{type(error).__name__} {error}")
        raise
    _compare(ranks, "done")
    return clip


def _compare(ranks: Ranks, outcome: str) -> None:
    outcomes = ranks.all_gather(outcome)
    if len(set(outcomes)) > 1:
        raise RuntimeError(f"The ranks are out of step: one clip ended as {', '.join(map(repr, outcomes))}.")


class _LeaderSink:
    """Asks the leader's own sink whether to continue, and broadcasts the decision."""

    def __init__(self, progress: ProgressSink, ranks: Ranks) -> None:
        self._progress = progress
        self._ranks = ranks

    def phase(self, phase: ClipPhase) -> None:
        self._ask(lambda: self._progress.phase(phase))

    def drawn(self, index: int, total: int, latents: "Tensor | None" = None) -> None:
        self._ask(lambda: self._progress.drawn(index, total, latents))

    def step(self, index: int, total: int, latents: "Tensor | None" = None) -> None:
        self._ask(lambda: self._progress.step(index, total, latents))

    def decoded(self, fraction: float) -> None:
        self._ask(lambda: self._progress.decoded(fraction))

    def _ask(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Stopped:
            self._ranks.broadcast(False)
            raise
        self._ranks.broadcast(True)


class _FollowerSink:
    """Receives the leader's decision whether to continue."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks

    def phase(self, phase: ClipPhase) -> None:
        self._receive()

    def drawn(self, index: int, total: int, latents: "Tensor | None" = None) -> None:
        self._receive()

    def step(self, index: int, total: int, latents: "Tensor | None" = None) -> None:
        self._receive()

    def decoded(self, fraction: float) -> None:
        self._receive()

    def _receive(self) -> None:
        # The leader's value counts.
        if not self._ranks.broadcast(False):
            raise Stopped
