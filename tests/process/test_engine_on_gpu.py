"""The engine with real models, on a simulated GPU (see `fake_cuda`); `test_film_command.py` has one without a GPU."""

import contextlib
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from engine_helpers import assert_done_exactly_once, spec
from places import ROOT

from ovi_studio.engine.command import engine_command
from ovi_studio.media import clip_files
from ovi_studio.queue.model import JobState
from ovi_studio.queue.store import Store
from ovi_studio.runtime.options import RuntimeOptions


def test_an_engine_starts_on_a_gpu_and_makes_clips_with_previews_from_which_it_learns(
    cuda: Callable[..., Any], tiny_bundle: Path, tmp_path: Path
) -> None:
    cards = cuda(24, desktop=True)
    previews: set[bytes] = set()
    with closing(Store.open(tmp_path / "outputs")) as store:
        command = engine_command(store.paths, RuntimeOptions(checkpoint_directory=tiny_bundle))
        ids = store.add([spec("a red ball bounces", variant="tiny", steps=30, seed=seed) for seed in (7, 8)])
        engine = subprocess.Popen(command, env=cards.environment, cwd=ROOT, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 300
            while store.ids(states=[JobState.QUEUED, JobState.RUNNING]):
                assert engine.poll() is None, store.paths.log.read_text()
                assert time.monotonic() < deadline
                previews |= shown(store)
                time.sleep(0.02)
        finally:
            engine.terminate()
            engine.wait()
        assert_done_exactly_once(store, ids)
        assert clip_files.read_record(store.get(ids[0]).clip)["machine"]["device"] == "NVIDIA GeForce RTX 3090"
        assert previews
        assert all(data.startswith(b"\xff\xd8") and data.endswith(b"\xff\xd9") for data in previews)
        assert np.array(store.database.setting("preview/tiny")).shape == (9, 3)
        assert store.paths.log.read_text().count(", starts.") == 2


def shown(store: Store) -> set[bytes]:
    """The previews that are there now."""
    found = set()
    for job in store.jobs(states=[JobState.RUNNING]):
        if job.progress and job.progress.preview:
            with contextlib.suppress(FileNotFoundError):
                found.add(job.progress.preview.read_bytes())
    return found
