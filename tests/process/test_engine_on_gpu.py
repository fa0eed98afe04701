"""The engine on a simulated GPU (see `fake_cuda`)."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from warm_start import PIPELINES, may_fork

from ovi_studio.core.spec import ClipSpec
from ovi_studio.media import clip_files
from ovi_studio.queue.model import JobState
from ovi_studio.queue.store import Store

SPEC = ClipSpec(prompt="a red ball bounces", variant="tiny", steps=2, seed=7)


def test_an_engine_starts_on_a_gpu_and_makes_the_clips_of_the_queue(
    cuda: Callable[..., Any], tiny_bundle: Path, tmp_path: Path
) -> None:
    cards = cuda(24, desktop=True)
    command = ["-m", "ovi_studio.engine", "--out", str(tmp_path), "--ckpt-dir", str(tiny_bundle)]
    with closing(Store.open(tmp_path)) as store:
        job, other = store.add([SPEC, replace(SPEC, seed=8)])
        with Path(os.devnull).open("w") as nothing:
            if may_fork():
                engine = PIPELINES.start(*command, environment=cards.environment, stderr=nothing.fileno())
            else:
                engine = subprocess.Popen([sys.executable, *command], env=cards.environment, stderr=nothing)
        try:
            deadline = time.monotonic() + 180
            while store.ids(states=[JobState.QUEUED, JobState.RUNNING]):
                assert engine.poll() is None, store.paths.log.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.2)
        finally:
            engine.send_signal(signal.SIGTERM)
            engine.wait()
        assert [store.get(one).state for one in (job, other)] == [JobState.DONE, JobState.DONE]
        assert clip_files.read_record(store.get(job).clip)["machine"]["device"] == "NVIDIA GeForce RTX 3090"
