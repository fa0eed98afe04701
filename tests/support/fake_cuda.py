"""CUDA without a GPU: `torch.cuda` answers as cards of given sizes would, as far as nothing is allocated.

Replaced is what the driver answers (`torch._C._cuda_*`, `cudaMemGetInfo`, ...); torch's own Python code above it stays,
with its checks of arguments: a device without an index is refused here as on a real card. `computing_on_the_host` goes
one step further: tensors that are asked for on a GPU are made on the host, so that whole clips run through the code
that a GPU takes.

For processes that a test starts, `cuda/sitecustomize.py` does the same by the variable `OVI_TEST_CARDS`.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from ovi_studio.models import attention_timing

GIB = 2**30
MIB = 2**20
_GENERATOR = torch.Generator
VARIABLE = "OVI_TEST_CARDS"
FOLDER = Path(__file__).parent / "cuda"
"""Holds what a process that a test starts loads first."""
DESKTOP = int(0.6e9)
"""What a desktop takes of the first card."""
_CONTEXT = 300 * MIB
"""What CUDA takes of a card for this process."""


@dataclass
class Card:
    """A GPU; its memory in bytes changes as the test wants."""

    name: str = "NVIDIA GeForce RTX 3090"
    total: int = int(23.69 * GIB)
    taken: int = 0
    """By other programs."""
    capability: tuple[int, int] = (8, 6)
    allocated: int = 0
    """By this process."""
    reserved: int = 0
    """By this process, what it does not use included."""
    fraction: float = 1.0
    peak: int = 0

    @property
    def free(self) -> int:
        return self.total - self.taken - _CONTEXT - self.reserved


_KINDS = {
    8: ("NVIDIA GeForce RTX 3060 Ti", 7.78, (8, 6)),
    12: ("NVIDIA GeForce RTX 3060", 11.75, (8, 6)),
    16: ("NVIDIA GeForce RTX 4080", 15.69, (8, 9)),
    24: ("NVIDIA GeForce RTX 3090", 23.69, (8, 6)),
    32: ("NVIDIA GeForce RTX 5090", 31.36, (12, 0)),
    48: ("NVIDIA RTX A6000", 47.4, (8, 6)),
    80: ("NVIDIA H100 80GB HBM3", 79.19, (9, 0)),
}


def cards(gigabytes: int, count: int = 1, *, desktop: bool = False) -> list[Card]:
    """So many cards as they are sold; a desktop takes its part of the first one."""
    name, total, capability = _KINDS[gigabytes]
    made = [Card(name, int(total * GIB), capability=capability) for _ in range(count)]
    made[0].taken = DESKTOP if desktop else 0
    return made


@dataclass
class FakeCuda:
    """The driver's answers."""

    cards: list[Card]
    current: int = 0
    pinning_error: int = 0
    """What `cudaHostRegister` returns; 0: it works."""
    pinned: list[int] = field(default_factory=list)
    """Addresses."""
    synchronised: int = 0

    @property
    def environment(self) -> dict[str, str]:
        """For a process that is to see these cards too, and computes on the host in their place."""
        paths = [str(FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])]
        described = json.dumps([asdict(card) for card in self.cards])
        return {**os.environ, VARIABLE: described, "PYTHONPATH": os.pathsep.join(paths)}

    def install(self, put: Callable[[Any, str, Any], None]) -> None:
        """Take the driver's place; `put(object, name, value)` sets an attribute that need not exist."""
        for name, answer in self._driver().items():
            put(torch._C, f"_cuda_{name}", answer)
        put(torch.cuda, "_cudart", self._runtime())
        put(torch.cuda, "_initialized", True)
        put(torch.cuda, "_cached_device_count", None)
        put(torch.cuda, "default_generators", tuple(torch.Generator() for _ in self.cards))
        put(torch.cuda, "_get_device_properties", self._properties)
        put(torch.cuda, "_exchange_device", self._exchange)
        put(torch.cuda, "_maybe_exchange_device", self._exchange)
        put(torch.cuda, "Stream", FakeStream)
        put(torch.cuda, "Event", FakeEvent)
        put(torch.cuda, "current_stream", FakeStream)
        put(torch.cuda, "stream", lambda stream: nullcontext())
        put(torch.version, "cuda", "13.0")
        # On the host it would take minutes; and all as fast as the native one, so that `auto` always chooses that.
        put(attention_timing, "time_attention", lambda *_: 1.0)

    def _driver(self) -> dict[str, Callable[..., Any]]:
        def memory_stats(device: int) -> dict[str, Any]:
            card = self.cards[device]
            held = {"allocated_bytes": card.allocated, "reserved_bytes": card.reserved}
            return {
                name: {kind: {"current": now, "peak": max(now, card.peak)} for kind in ("all",)}
                for name, now in held.items()
            }

        def set_fraction(fraction: float, device: int) -> None:
            self.cards[device].fraction = fraction

        def reset_peak(device: int) -> None:
            self.cards[device].peak = 0

        return {
            "getDeviceCount": lambda: len(self.cards),
            "getDevice": lambda: self.current,
            "setDevice": self._exchange,
            "init": lambda: None,
            "isInBadFork": lambda: False,
            "getCurrentRawStream": lambda device: 0,
            "getMemoryFraction": lambda device: self.cards[device].fraction,
            "setMemoryFraction": set_fraction,
            "emptyCache": self._give_back,
            "memoryStats": memory_stats,
            "resetPeakMemoryStats": reset_peak,
            "synchronize": self._synchronise,
        }

    def _runtime(self) -> Any:
        def register(address: int, size: int, flags: int) -> int:
            if not self.pinning_error:
                self.pinned.append(address)
            return self.pinning_error

        def unregister(address: int) -> int:
            self.pinned.remove(address)
            return 0

        return SimpleNamespace(
            cudaMemGetInfo=lambda device: (self.cards[device].free, self.cards[device].total),
            cudaHostRegister=register,
            cudaHostUnregister=unregister,
        )

    def _properties(self, device: int) -> Any:
        card = self.cards[device]
        major, minor = card.capability
        return SimpleNamespace(name=card.name, total_memory=card.total, major=major, minor=minor)

    def _exchange(self, device: int) -> int:
        before, self.current = self.current, device if device >= 0 else self.current
        return before

    def _give_back(self) -> None:
        for card in self.cards:
            card.reserved = card.allocated

    def _synchronise(self) -> None:
        self.synchronised += 1


class FakeStream:
    """Everything that is asked of it is done at once."""

    def __init__(self, device: Any = None) -> None:
        self.device = device

    def wait_event(self, event: Any) -> None:
        pass

    def synchronize(self) -> None:
        pass


class FakeEvent:
    def record(self, stream: Any = None) -> None:
        pass


class _OnHost(TorchFunctionMode):
    """Makes on the host what is asked for on a GPU."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is torch.device:  # naming a GPU is not using one
            return function(*args, **kwargs)
        # No function takes a device inside of a list, and to look through all lists would take longer than the clip.
        return function(*map(_on_host, args), **{name: _on_host(value) for name, value in kwargs.items()})


class _HostGenerators(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _GENERATOR)


class _HostGenerator(metaclass=_HostGenerators):
    """`torch.Generator` on the host, whatever device it is asked for on; that class can have no subclass."""

    def __new__(cls, device: Any = "cpu") -> Any:
        return _GENERATOR("cpu")


def _on_host(value: Any) -> Any:
    if isinstance(value, torch.device) and value.type == "cuda":
        return torch.device("cpu")
    return "cpu" if isinstance(value, str) and value.partition(":")[0] == "cuda" else value


@contextmanager
def computing_on_the_host() -> Iterator[None]:
    """Within it, in this thread, tensors on a GPU are tensors on the host."""
    torch.Generator = _HostGenerator  # type: ignore[assignment, misc]
    try:
        with _OnHost():
            yield
    finally:
        torch.Generator = _GENERATOR  # type: ignore[misc]


_for_good: list[Any] = []


def install_from_environment() -> None:
    """The cards that the starting process described, in this process for good."""
    described = json.loads(os.environ[VARIABLE])
    found = [Card(**card | {"capability": tuple(card["capability"])}) for card in described]
    FakeCuda(found).install(setattr)
    _for_good.append(computing_on_the_host())
    _for_good[0].__enter__()
