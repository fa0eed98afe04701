"""`Ranks`: this process among those that make a clip together. One process is a group of one and needs nothing.

Rank 0 leads: it talks to the store or the terminal, and its decisions are told to the others. What is told goes
through the host (gloo), so that no device waits for it; tensors go through the device's own library.

Every rank does the same in the same order, and that is all there is to it: an error that only one rank has would leave
the others waiting. `agreed` makes an error of one the error of all, where one can happen; anywhere else it ends the
process, and `watchdog` then ends the others.
"""

import datetime
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ovi_studio.capacity.layouts import layout_for
from ovi_studio.core.errors import JobError

if TYPE_CHECKING:
    from torch import Tensor

    from ovi_studio.distributed.pass_layout import Layout

T = TypeVar("T")

_PATIENCE = datetime.timedelta(minutes=30)
"""The longest that ranks may be apart: one reads a checkpoint while the others wait."""
_IDLE = datetime.timedelta(days=20)
"""The longest that the leader may have nothing to say; gloo counts milliseconds in 32 bits."""


class Ranks:
    """One process alone."""

    count = 1
    index = 0

    @property
    def leads(self) -> bool:
        return self.index == 0

    def tell(self, value: T | None = None) -> T:
        """The leader's value, on every rank; others need not give one. Waits for the leader within a clip."""
        return value  # type: ignore[return-value]

    def await_word(self, value: T | None = None) -> T:
        """The same between clips, where the leader may be silent for days."""
        return value  # type: ignore[return-value]

    def everybody(self, value: T) -> list[T]:
        """The values of all ranks, on every rank."""
        return [value]

    def collect(self, value: T) -> list[T]:
        """The values of all ranks, on the leader; nothing on the others."""
        return [value]

    def same(self, *tensors: "Tensor") -> "tuple[Tensor, ...]":
        """The leader's tensors, on every rank; the others bring tensors of the same shapes."""
        return tensors

    def layout(self, heads: int, video_tokens: int, *, guided: bool) -> "Layout":
        """How a clip of a model with so many heads lies on the ranks."""
        from ovi_studio.distributed.pass_layout import SINGLE_PROCESS

        return SINGLE_PROCESS

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """A `JobError` that any rank raises inside is raised on all of them at the end."""
        problem = None
        try:
            yield
        except JobError as error:
            problem = str(error)
        first = next(filter(None, self.everybody(problem)), None)
        if first is not None:
            raise JobError(first)

    def close(self) -> None:
        """Take leave of the others, who do so too."""


class Group(Ranks):
    """Processes that `accelerate launch` started, each with a GPU of its own, or on a CPU."""

    def __init__(self) -> None:
        import torch
        import torch.distributed as dist

        from ovi_studio.distributed.watchdog import PeerWatchdog
        from ovi_studio.models.device import compute_device

        on_gpu = torch.cuda.is_available()
        if on_gpu:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        self.device = compute_device()
        dist.init_process_group("cuda:nccl,cpu:gloo" if on_gpu else "gloo", timeout=_PATIENCE)
        self.count, self.index = dist.get_world_size(), dist.get_rank()
        self._hosts = dist.new_group(backend="gloo", timeout=_PATIENCE)
        self._idle = dist.new_group(backend="gloo", timeout=_IDLE)
        self._sharers: dict[int, list[dist.ProcessGroup]] = {}
        self.watchdog = PeerWatchdog(self.everybody(os.getpid()))
        self._notes = Path(self.tell(tempfile.mkdtemp(prefix="ovi-ranks-") if self.leads else None))

    def tell(self, value: T | None = None) -> T:
        return self._broadcast(value, self._hosts)

    def await_word(self, value: T | None = None) -> T:
        return self._broadcast(value, self._idle)

    def everybody(self, value: T) -> list[T]:
        import torch.distributed as dist

        values: list[T | None] = [None] * self.count
        dist.all_gather_object(values, value, group=self._hosts)
        return values  # type: ignore[return-value]

    def collect(self, value: T) -> list[T]:
        import torch.distributed as dist

        values: list[T | None] | None = [None] * self.count if self.leads else None
        dist.gather_object(value, values, dst=0, group=self._hosts)
        return values or []  # type: ignore[return-value]

    def same(self, *tensors: "Tensor") -> "tuple[Tensor, ...]":
        import torch.distributed as dist

        own = tuple(tensor.contiguous() for tensor in tensors)
        for tensor in own:
            dist.broadcast(tensor, src=0)
        return own

    def layout(self, heads: int, video_tokens: int, *, guided: bool) -> "Layout":
        from ovi_studio.distributed.pass_layout import SharedLayout
        from ovi_studio.distributed.sequence import SequenceParallel
        from ovi_studio.models.token_layout import UNSHARDED

        halves, sequence = layout_for(self.count, heads, guided=guided)
        if sequence == 1:
            return SharedLayout(halves, UNSHARDED)
        return SharedLayout(halves, SequenceParallel(self._sharing(sequence), video_tokens))

    def note_lack_of_memory(self) -> None:
        """Let the leader know, who may be waiting for this rank, before this process ends."""
        (self._notes / "memory").touch()

    def lacked_memory(self) -> bool:
        """Whether a rank ended for lack of memory."""
        return (self._notes / "memory").exists()

    def close(self) -> None:
        import torch.distributed as dist

        dist.barrier(group=self._hosts)
        self.watchdog.end()
        # Whoever goes before the others have said so would be missed.
        dist.barrier(group=self._hosts)
        if self.leads:
            shutil.rmtree(self._notes, ignore_errors=True)
        dist.destroy_process_group()

    def _sharing(self, size: int) -> "dist.ProcessGroup":  # noqa: F821
        """The `size` neighbours of this rank: a group of their own, so that exchanges do not queue behind gathers."""
        import torch.distributed as dist

        if size not in self._sharers:
            # Every rank takes part in the making of every group.
            firsts = range(0, self.count, size)
            self._sharers[size] = [
                dist.new_group(list(range(first, first + size)), timeout=_PATIENCE) for first in firsts
            ]
        return self._sharers[size][self.index // size]

    def _broadcast(self, value: T | None, group: "dist.ProcessGroup") -> T:  # noqa: F821
        import torch.distributed as dist

        box = [value]
        dist.broadcast_object_list(box, src=0, group=group)
        return box[0]  # type: ignore[return-value]


ALONE = Ranks()


def launched() -> bool:
    """Whether this process is one of several that a launcher started."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


@cache
def join_ranks() -> Ranks:
    """This process among the others, always the same object; alone if nobody launched several."""
    return Group() if launched() else ALONE
