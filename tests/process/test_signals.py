"""A page or command started in the background, where Ctrl+C is ignored, ends cleanly on a signal."""

import signal
import sys
from contextlib import closing
from pathlib import Path

import pytest
from engine_helpers import running, spec, wait_for
from processes import deaf_to_ctrl_c, is_alive, with_children
from studio_app import Application

from ovi_studio.queue.model import JobState
from ovi_studio.queue.store import Store

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
SIGNALS = [signal.SIGINT, signal.SIGTERM, *filter(None, [getattr(signal, "SIGHUP", None)])]


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_page_started_in_the_background_ends_with_its_engine_and_gives_its_job_back(
    number: signal.Signals, tmp_path: Path
) -> None:
    with closing(Store.open(tmp_path / "outputs")) as store:
        (job,) = store.add([spec("wait", steps=1000)])
        with deaf_to_ctrl_c():
            application = Application(tmp_path / "outputs", tmp_path / "checkpoints", cold=number is signal.SIGTERM)
        try:
            wait_for(lambda: running(store), 120)
            started = with_children(application.process.pid)
            assert len(started) > 1
            application.process.send_signal(number)
            assert application.process.wait(60) == 0
            assert not any(map(is_alive, started))
        finally:
            application.end()
        assert (store.get(job).state, store.get(job).attempt) == (JobState.QUEUED, 0)
