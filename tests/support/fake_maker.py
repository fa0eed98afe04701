"""A maker without models, for tests of the queue and the engine: it makes small real clips and does what prompts say.

"crash": an error that nobody expects; "die": the process is gone at once; "memory": out of memory; "crowded": the same
unless it is in memory tier 8; "cramped": the same unless shares wait in host memory; "refuse": a `JobError`; "wait":
steps that take `STEP_SECONDS`, and with "slowly" ten times that; "decode": as many pieces to decode as there are steps,
each of which takes `STEP_SECONDS`; "on rank 1": all of that on this rank alone, for which the others wait. Everything
else is a clip at once.
"""

import logging
import os
import signal
import time

import numpy as np

from ovi_studio.core.clip import Clip
from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.queue.model import Phase
from ovi_studio.runtime.runner import MakerOptions, Report

STEP_SECONDS = 0.05
NAME = "fake_maker:FakeMaker"
BROKEN = "fake_maker:broken"


class FakeMaker:
    def __init__(self, options: MakerOptions) -> None:
        self.loaded: str | None = None
        logging.getLogger("ovi_studio").info("The maker was made with %s", options)
        self.offloaded = options.sharding.offloaded
        self.tier: str | None = None if options.memory == "auto" else options.memory
        self.lacked: list[str] = []

    def use_tier(self, name: str, lacked: str) -> None:
        self.tier = name
        self.lacked.append(lacked)

    def __call__(self, spec: ClipSpec, report: Report) -> Clip:
        if spec.variant != self.loaded:
            report.phase(Phase.LOADING)
            self.loaded = spec.variant
        report.phase(Phase.TEXT)
        for index in range(1, spec.steps + 1):
            if "wait" in spec.prompt:
                time.sleep(STEP_SECONDS * (10 if "slowly" in spec.prompt else 1))
            report.step(index, spec.steps)
            misbehave(spec.prompt)
            if "cramped" in spec.prompt and not self.offloaded:
                misbehave(spec.prompt.replace("cramped", "memory"))
            if "crowded" in spec.prompt and self.tier != "8":
                raise MemoryError
        if "decode" in spec.prompt:
            for index in range(1, spec.steps + 1):
                time.sleep(STEP_SECONDS)
                report.decoded(index / spec.steps)
        frames = np.full((2, 32, 32, 3), spec.seed % 256, np.uint8)
        return Clip(spec, frames, np.zeros(1400, np.float32), record={"memory": self.memory()})

    def memory(self) -> dict[str, object]:
        return {"tier": self.tier} | ({"lacked_memory_with": self.lacked} if self.lacked else {})


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


def broken(options: MakerOptions) -> None:
    raise RuntimeError("no driver")
