"""A maker on several ranks: the leader tells what to make and how it goes on, the others follow.

Every rank runs the same maker on the same spec. Where the maker tells its report something, the leader asks the real
report whether to go on and passes the answer on; these are the places where a clip can be stopped. At its end all ranks
compare how it ended: if they differ, or if one had an error that was not agreed on, they are out of step and the
process must end.
"""

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from ovi_studio.core.clip import Clip
from ovi_studio.core.errors import JobError, Stopped, is_out_of_memory
from ovi_studio.core.spec import ClipSpec
from ovi_studio.distributed.ranks import Group, Ranks, join_ranks
from ovi_studio.queue.model import Phase
from ovi_studio.runtime.runner import Maker, Report

if TYPE_CHECKING:
    from torch import Tensor

    from ovi_studio.sampling.denoise import OnStep


class LeaderRunner:
    """The maker of rank 0; the others `run_follower`.

    Args:
        make: the same on all ranks.
    """

    def __init__(self, make: Maker, ranks: Group) -> None:
        self.in_step = True
        """False after an error that the others do not share: nothing can be made any more."""
        self._make = make
        self._ranks = ranks

    def __call__(self, spec: ClipSpec, report: Report) -> Clip:
        """Make a clip with the others; raises what the maker and the report raise."""
        self._ranks.await_word(spec)
        self.in_step = False
        try:
            clip = _make_together(self._make, self._ranks, spec, _LeadersReport(report, self._ranks))
        except (JobError, Stopped):
            self.in_step = True
            raise
        except Exception as error:
            # A rank that is gone may be noticed here as a broken connection; what matters is why it went.
            if self._ranks.lacked_memory():
                raise MemoryError("a rank has no memory left") from error
            raise
        self.in_step = True
        return clip

    def on_loss(self, call: Callable[[bool], None]) -> None:
        """Have something done before this process ends because a rank is gone: it is told whether memory was short.

        It is called in another thread, while this one waits for that rank.
        """
        self._ranks.watchdog.on_peer_loss = lambda: call(self._ranks.lacked_memory())

    def close(self) -> None:
        """Let the others go."""
        if self.in_step:
            self._ranks.await_word(None)
            self._ranks.close()


def run_follower(make: Maker) -> None:
    """Make what the leader makes until it has nothing more to say."""
    ranks = _group()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the leader gets them too, and decides
    while (spec := ranks.await_word()) is not None:
        try:
            _make_together(make, ranks, spec, _FollowersReport(ranks))
        except (JobError, Stopped):
            continue  # the leader deals with it
        except Exception as error:
            if is_out_of_memory(error):
                ranks.note_lack_of_memory()
            raise
    ranks.close()


def run_leader(make: Maker) -> LeaderRunner:
    """The leader's maker, in a process that a launcher started."""
    return LeaderRunner(make, _group())


def _group() -> Group:
    ranks = join_ranks()
    if not isinstance(ranks, Group):
        raise TypeError("this process is not one of several ranks")
    return ranks


def _make_together(make: Maker, ranks: Ranks, spec: ClipSpec, report: Report) -> Clip:
    try:
        clip = make(spec, report)
    except (JobError, Stopped) as error:
        _compare(ranks, f"{type(error).__name__} {error}")
        raise
    _compare(ranks, "done")
    return clip


def _compare(ranks: Ranks, outcome: str) -> None:
    outcomes = ranks.everybody(outcome)
    if len(set(outcomes)) > 1:
        raise RuntimeError(f"The ranks are out of step: one clip ended as {', '.join(map(repr, outcomes))}.")


class _LeadersReport:
    """Passes on to the others whether the real report wants to go on."""

    def __init__(self, report: Report, ranks: Ranks) -> None:
        self._report = report
        self._ranks = ranks

    def phase(self, phase: Phase) -> None:
        self._ask(lambda: self._report.phase(phase))

    def step(self, index: int, total: int, latents: "Tensor | None" = None) -> None:
        self._ask(lambda: self._report.step(index, total, latents))

    def decoded(self, fraction: float) -> None:
        self._ask(lambda: self._report.decoded(fraction))

    def _ask(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Stopped:
            self._ranks.tell(False)
            raise
        self._ranks.tell(True)


class StepReport:
    """For makers that tell a step callback alone."""

    def __init__(self, on_step: "OnStep | None") -> None:
        self._on_step = on_step

    def phase(self, phase: Phase) -> None:
        pass

    def step(self, index: int, total: int, latents: "Tensor | None" = None) -> None:
        from ovi_studio.sampling.denoise import Step

        if self._on_step is not None:
            self._on_step(Step(index, total, None))  # type: ignore[arg-type]

    def decoded(self, fraction: float) -> None:
        pass


class _FollowersReport:
    """Hears from the leader whether to go on."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks

    def phase(self, phase: Phase) -> None:
        self._listen()

    def step(self, index: int, total: int, latents: "Tensor | None" = None) -> None:
        self._listen()

    def decoded(self, fraction: float) -> None:
        self._listen()

    def _listen(self) -> None:
        if not self._ranks.tell():
            raise Stopped
