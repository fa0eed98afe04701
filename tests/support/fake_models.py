"""Models without weights, for tests of the queue and the engine: they make small real clips and do what prompts say.

"crash": an error that nobody expects; "die": the process is gone at once; "memory": out of memory; "crowded": the same
unless it is in memory tier 8; "cramped": the same unless shares wait in host memory; "refuse": a `JobError`; "wait":
steps that take `STEP_SECONDS`, and with "slowly" ten times that; "decode": as many pieces to decode as there are steps,
each of which takes `STEP_SECONDS`; "sketch": steps have latents; "on rank 1": all of that on this rank alone, for which
the others wait. Everything else is a clip at once.
"""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

from ovi_studio.core.clip import Clip, NewFrameSink
from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.distributed.ranks import Ranks
from ovi_studio.runtime.options import RuntimeOptions

if TYPE_CHECKING:
    from torch import Tensor

STEP_SECONDS = 0.05
NAME = "fake_models:FakeSource"
BROKEN = "fake_models:BrokenSource"
SLOW = "fake_models:SlowSource"
FULL_DISK = "fake_models:FullDiskSource"
MIXED = "fake_models:MixedSource"


@dataclass(frozen=True)
class FakeModels:
    tier: str | None
    offloaded: bool
    exhausted: tuple[str, ...]

    def __call__(
        self,
        spec: ClipSpec,
        on_step: Callable[[SimpleNamespace], None],
        on_decoded: Callable[[float], None],
        new_sink: NewFrameSink,
    ) -> Clip:
        for index in range(1, spec.steps + 1):
            if "wait" in spec.prompt:
                time.sleep(STEP_SECONDS * (10 if "slowly" in spec.prompt else 1))
            video = latents(index) if "sketch" in spec.prompt else None
            on_step(SimpleNamespace(index=index, total=spec.steps, latents=SimpleNamespace(video=video)))
            misbehave(spec.prompt)
            if "cramped" in spec.prompt and not self.offloaded:
                misbehave(spec.prompt.replace("cramped", "memory"))
            if "crowded" in spec.prompt and self.tier != "8":
                raise MemoryError
        if "decode" in spec.prompt:
            for index in range(1, spec.steps + 1):
                time.sleep(STEP_SECONDS)
                on_decoded(index / spec.steps)
        frames = np.full((5, 32, 32, 3), spec.seed % 256, np.uint8)
        return Clip(spec, frames, np.zeros(1400, np.float32), record={"memory": self.memory()})

    def memory(self) -> dict[str, object]:
        return {"tier": self.tier} | ({"lacked_memory_with": list(self.exhausted)} if self.exhausted else {})


def latents(index: int) -> "Tensor":
    """Of five frames of 32 x 32 pixels."""
    import torch

    return torch.linspace(-1, index, 4 * 2 * 2 * 2).reshape(4, 2, 2, 2)


class FakeSource:
    def load(self, variant: str, options: RuntimeOptions, ranks: Ranks, exhausted: tuple[str, ...]) -> FakeModels:
        return FakeModels(self.tier(variant, options), options.fsdp_offload, exhausted)

    def tier(self, variant: str, options: RuntimeOptions) -> str | None:
        return None if options.memory == "auto" else options.memory


class MixedSource(FakeSource):
    """Makes clips whose prompt contains "embedded" with the real models of their variant."""

    def load(self, variant: str, options: RuntimeOptions, ranks: Ranks, exhausted: tuple[str, ...]) -> Callable:
        fake = super().load(variant, options, ranks, exhausted)
        real = []

        class Mixed:
            tier = fake.tier

            def __call__(self, spec: ClipSpec, *rest: object) -> Clip:
                if "embedded" not in spec.prompt:
                    return fake(spec, *rest)
                if not real:
                    from ovi_studio.runtime.clip_runner import OviModels

                    real.append(OviModels().load(variant, options, ranks, exhausted))
                return real[0](spec, *rest)

        return Mixed()


class BrokenSource(FakeSource):
    def __init__(self) -> None:
        raise RuntimeError("no driver")


class SlowSource(FakeSource):
    """What takes minutes on a machine that has never read its checkpoints."""

    def __init__(self) -> None:
        time.sleep(600)


class FullDiskSource(FakeSource):
    """A process on a machine whose disk has no room."""

    def __init__(self) -> None:
        from ovi_studio.farm import files

        usage = files.shutil.disk_usage("/")
        files.shutil.disk_usage = lambda path: usage._replace(free=0)


def misbehave(prompt: str) -> None:
    if "cramped" in prompt:
        return
    if "on rank" in prompt and f"on rank {os.environ.get('RANK')}" not in prompt:
        # What the others do while one is in trouble: they wait for it in a collective.
        import torch.distributed as dist

        dist.barrier()
        return
    if "crash" in prompt:
        raise RuntimeError("a defect")
    if "die" in prompt:
        os.kill(os.getpid(), signal.SIGKILL)
    if "memory" in prompt:
        raise MemoryError
    if "refuse" in prompt:
        raise JobError("This cannot be done; try something else.")
