"""One cluster for all tests of a process: a head and a machine `rig`, both real Ray processes."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from engine_helpers import studio
from farm_helpers import TOKEN, WAITED_FOR, add_machine, cluster
from idle_agent import replace_agents
from places import FORKING_PATH

from ovi_studio.queue.store import Store


@pytest.fixture(scope="session")
def farm() -> Iterator[object]:
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", FORKING_PATH)
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", TOKEN)
        # Ray would wait 15 s before it believes that a machine is gone.
        patch.setenv("RAY_health_check_period_ms", "500")
        for name, value in WAITED_FOR.items():
            patch.setenv(name, value)
        replace_agents(patch.setattr)
        with cluster() as found:
            add_machine(found, "rig")
            yield found


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with studio(tmp_path / "outputs", monkeypatch) as store:
        yield store
