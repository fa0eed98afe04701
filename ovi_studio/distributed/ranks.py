"""`Ranks`: the processes that make a clip together, as seen by one of them. A single process needs no communication.

Rank 0 is the leader: it talks to the store or the terminal, and broadcasts its decisions to the others. Python values
are sent between hosts (gloo), so that no device waits for them; tensors are sent by the device's own library.

All ranks make the same calls in the same order, so an error on only one rank would leave the others waiting.
`share_errors` raises an expected error of one rank on all of them; any other error ends the process, and `watchdog`
then ends the others.
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
    from torch.distributed import ProcessGroup

    from ovi_studio.distributed.pass_layout import PassLayout

T = TypeVar("T")

SCRATCH = "OVI_STUDIO_RANK_FOLDER"
"""Environment variable: a folder for whatever ranks write for each other; the launcher removes it, however they end."""
_PATIENCE = datetime.timedelta(minutes=30)
"""The longest that ranks wait for each other within a clip: one may read a checkpoint meanwhile."""
_IDLE = datetime.timedelta(days=20)
"""The longest that ranks wait for the next clip; gloo counts milliseconds in 32 bits."""


class Ranks:
    """A single process, which makes clips alone."""

    count = 1
    index = 0

    @property
    def is_leader(self) -> bool:
        return self.index == 0

    def broadcast(self, value: T) -> T:
        """Return the leader's value, on every rank; the other ranks' values are ignored. For use within a clip."""
        return value

    def broadcast_when_idle(self, value: T) -> T:
        """Return the leader's value, on every rank, as `broadcast` does; between clips, where it may take days."""
        return value

    def all_gather(self, value: T) -> list[T]:
        """Return the values of all ranks, on every rank."""
        return [value]

    def gather(self, value: T) -> list[T]:
        """Return the values of all ranks on the leader, and an empty list on the others."""
        return [value]

    def broadcast_tensors(self, *tensors: "Tensor") -> "tuple[Tensor, ...]":
        """Return the leader's tensors, on every rank; the other ranks pass tensors of the same shapes."""
        return tensors

    def layout(self, heads: int, video_tokens: int, *, guided: bool) -> "PassLayout":
        """Return how a clip of a model with so many heads is distributed over the ranks.

        Args:
            guided: whether every step has two passes, which two halves of the ranks can then compute in parallel.
        """
        from ovi_studio.distributed.pass_layout import SINGLE_PROCESS

        return SINGLE_PROCESS

    @contextmanager
    def share_errors(self) -> Iterator[None]:
        """Raise a `JobError` of any rank inside the block on all ranks, at the end of the block."""
        problem = None
        try:
            yield
        except JobError as error:
            problem = str(error)
        first = next(filter(None, self.all_gather(problem)), None)
        if first is not None:
            raise JobError(first)

    def close(self) -> None:
        """Leave the group; all ranks must do so."""


class RankGroup(Ranks):
    """Several processes started by `accelerate launch`, each with its own GPU, or all on the CPU."""

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
        self._neighbours: dict[int, list[ProcessGroup]] = {}
        self.watchdog = PeerWatchdog(self.all_gather(os.getpid()))
        self._notes = Path(self.broadcast(_new_folder() if self.is_leader else ""))

    def broadcast(self, value: T) -> T:
        return self._broadcast(value, self._hosts)

    def broadcast_when_idle(self, value: T) -> T:
        return self._broadcast(value, self._idle)

    def all_gather(self, value: T) -> list[T]:
        import torch.distributed as dist

        values = [value] * self.count
        dist.all_gather_object(values, value, group=self._hosts)
        return values

    def gather(self, value: T) -> list[T]:
        import torch.distributed as dist

        values = [value] * self.count if self.is_leader else None
        dist.gather_object(value, values, dst=0, group=self._hosts)
        return values or []

    def broadcast_tensors(self, *tensors: "Tensor") -> "tuple[Tensor, ...]":
        import torch.distributed as dist

        own = tuple(tensor.contiguous() for tensor in tensors)
        for tensor in own:
            dist.broadcast(tensor, src=0)
        return own

    def layout(self, heads: int, video_tokens: int, *, guided: bool) -> "PassLayout":
        from ovi_studio.distributed.pass_layout import SharedPassLayout
        from ovi_studio.distributed.sequence import SequenceParallel
        from ovi_studio.models.token_layout import UNSHARDED

        halves, sequence = layout_for(self.count, heads, guided=guided)
        if sequence == 1:
            return SharedPassLayout(halves, UNSHARDED)
        return SharedPassLayout(halves, SequenceParallel(self._sequence_group(sequence), video_tokens))

    def report_out_of_memory(self) -> None:
        """Tell the leader, which may be waiting for this rank, that memory ran out; called before this process ends."""
        (self._notes / "memory").touch()

    def ran_out_of_memory(self) -> bool:
        """Whether a rank ended because memory ran out."""
        return (self._notes / "memory").exists()

    def close(self) -> None:
        import torch.distributed as dist

        dist.barrier(group=self._hosts)
        self.watchdog.end()
        # A rank that exits before all have ended their watchdogs would count as lost.
        dist.barrier(group=self._hosts)
        if self.is_leader:
            shutil.rmtree(self._notes, ignore_errors=True)
        dist.destroy_process_group()

    def _sequence_group(self, size: int) -> "ProcessGroup":
        """Return the group of `size` neighbours of this rank, whose exchanges do not queue behind gathers."""
        import torch.distributed as dist

        if size not in self._neighbours:
            # Every rank must take part in the creation of every group.
            firsts = range(0, self.count, size)
            self._neighbours[size] = [
                dist.new_group(list(range(first, first + size)), timeout=_PATIENCE) for first in firsts
            ]
        return self._neighbours[size][self.index // size]

    def _broadcast(self, value: T, group: "ProcessGroup") -> T:
        import torch.distributed as dist

        box = [value]
        dist.broadcast_object_list(box, src=0, group=group)
        return box[0]


def _new_folder() -> str:
    """Create a folder for what ranks write for each other: in the launcher's, since killed ranks remove none."""
    return tempfile.mkdtemp(prefix="ovi-ranks-", dir=os.environ.get(SCRATCH))


ALONE = Ranks()


def launched() -> bool:
    """Whether this process is one of several ranks started by the launcher."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


@cache
def join_ranks() -> Ranks:
    """Return the ranks that this process belongs to, always the same object; `ALONE` if it is not one of several."""
    return RankGroup() if launched() else ALONE
