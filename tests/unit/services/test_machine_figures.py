"""What the System tab and `farm status` say of engines and machines."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest
from job_helpers import SPEC

from ovi_studio.__main__ import main
from ovi_studio.core.errors import JobError
from ovi_studio.farm.roster import MachineState, MachineStatus, Order, give_order, publish
from ovi_studio.queue.estimates import PhaseTimes, record_phase_times
from ovi_studio.queue.model import EngineState
from ovi_studio.queue.schedule import Maker
from ovi_studio.queue.store import Store
from ovi_studio.queue.work import EngineSession
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services.machines import MachineFigures, format_figures, list_makers, machine_figures
from ovi_studio.services.studio import Studio
from ovi_studio.web.tabs.system.machine_views import machines_html

GIB = 2**30
CARD = {"GPU 0: GeForce RTX 3090": (4 * GIB, 24 * GIB)}
RIG = MachineStatus(
    "rig", "RTX 4090", 24.0, (SPEC.variant,), MachineState.IDLE, "it lost a clip", since=1000.0, free=20.5
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store.open(tmp_path / "outputs")) as store:
        yield store


@pytest.fixture
def serving(store: Store) -> Iterator[ExitStack]:
    """Engines that `enter` the store with a name."""
    with ExitStack() as stack:
        yield stack


def engine(serving: ExitStack, store: Store, owner: str, state: EngineState = EngineState.IDLE) -> EngineSession:
    work = serving.enter_context(EngineSession(store.database, owner))
    work.announce(state, None)
    return work


def test_figures_are_those_of_this_machine_and_then_of_the_others(store, serving):
    engine(serving, store, "engine-a")
    engine(serving, store, "farm-b")
    engine(serving, store, "farm.rig-c")
    publish(store.database, [RIG])
    give_order(store.database, "rig", Order.PAUSE)
    times = PhaseTimes(text=1.0, step=2.0, decode=5.0, write=2.0)
    record_phase_times(store.database, replace(SPEC, steps=41), times, "farm.rig")
    here, rig = machine_figures(store, ["demo"], CARD)
    assert (here.name, here.elsewhere, here.card, here.memory, here.free) == (
        "This machine",
        False,
        "GeForce RTX 3090",
        24.0,
        20.0,
    )
    assert here.variants == ("demo",)
    assert here.since == pytest.approx(time.time(), abs=60)
    assert (here.clips, here.seconds_per_step, here.clips_per_hour) == (0, None, None)
    assert rig == MachineFigures(
        slot="farm.rig",
        name="rig",
        elsewhere=True,
        state=MachineState.IDLE,
        order=Order.PAUSE,
        card="RTX 4090",
        memory=24.0,
        free=20.5,
        variants=(SPEC.variant,),
        clips=1,
        seconds_per_step=2.0,
        clips_per_hour=pytest.approx(3600 / 90),
        measured=SPEC.variant,
        since=1000.0,
        error="it lost a clip",
    )


def test_a_card_is_named_only_where_it_is_certain(store, serving):
    engine(serving, store, "engine-a")
    two = {**CARD, "GPU 1: L4": (0, 22 * GIB)}
    assert [one.card for one in machine_figures(store, [], two)] == [""]
    engine(serving, store, "engine1-b")
    assert [(one.name, one.card) for one in machine_figures(store, [], two)] == [
        ("Engine 1", "GeForce RTX 3090"),
        ("Engine 2", "L4"),
    ]
    assert [one.card for one in machine_figures(store, [], {})] == ["CPU", "CPU"]
    assert all(one.memory > one.free > 0 for one in machine_figures(store, [], {}))


def test_jobs_are_expected_only_of_machines_that_take_them(store, serving):
    assert list_makers(store) == [Maker()]
    engine(serving, store, "farm-b")
    store.add([SPEC])
    work = engine(serving, store, "farm.rig-c", EngineState.WORKING)
    work.claim()
    publish(store.database, [replace(RIG, state=MachineState.PAUSED)])
    assert list_makers(store) == [Maker("farm.rig", frozenset()), Maker()]
    publish(store.database, [replace(RIG, state=MachineState.WORKING)])
    assert list_makers(store) == [Maker("farm.rig", frozenset({SPEC.variant}))]
    engine(serving, store, "engine1-d")
    assert Maker("engine1") in list_makers(store)


def test_clip_that_only_another_machine_can_make_is_queued_and_one_that_none_can_is_refused(tmp_path: Path) -> None:
    options = RuntimeOptions(checkpoint_directory=tmp_path / "none")
    with closing(Studio.open(tmp_path / "outputs", options)) as studio:
        with pytest.raises(JobError, match="is not complete; download it"):
            studio.queue([SPEC])
        publish(studio.store.database, [RIG])
        assert len(studio.queue([SPEC])) == 1


def test_farm_status_prints_the_figures_of_the_system_tab(store, serving, capsys, tmp_path):
    engine(serving, store, "engine-a")
    publish(store.database, [replace(RIG, state=MachineState.SET_ASIDE, reason="no driver")])
    record_phase_times(store.database, SPEC, PhaseTimes(1.0, 2.0, 5.0, 2.0), "farm.rig")
    command = ["farm", "status", "--out", str(store.paths.outputs), "--ckpt-dir", str(tmp_path / "none")]
    assert main(command) == 0
    printed = capsys.readouterr().out
    (_, rig) = machine_figures(store, ["demo"], {})
    row = next(line for line in printed.splitlines() if line.startswith("rig"))
    assert row in format_figures(machine_figures(store, ["demo"], {}))
    shown = machines_html([rig])
    for figure in ("RTX 4090", "24", "20.5", SPEC.variant, f"{rig.clips_per_hour:.0f}", "2.00", "no driver"):
        assert figure in row
        assert figure in shown
    assert "set aside" in row
    assert "Set aside" in shown
    assert 'aria-label="Try again: rig"' in shown
    assert main([*command[:1], "pause", "rig", *command[2:]]) == 0
    assert "set aside (pause)" in capsys.readouterr().out


def test_dashboard_is_linked_where_there_is_one_and_says_what_it_asks_for() -> None:
    shown = machines_html([], "http://127.0.0.1:8265")
    assert '<a href="http://127.0.0.1:8265" target="_blank"' in shown
    assert "asks for the token in farm.token" in shown
    assert "<a " not in machines_html([])


def test_names_and_errors_of_machines_are_text() -> None:
    hostile = "<script>&\"'"
    shown = machines_html(
        [MachineFigures("farm.x", hostile, True, MachineState.IDLE, card=hostile, error=hostile)], hostile
    )
    assert "<script" not in shown
    assert shown.count("&lt;script&gt;&amp;&quot;&#x27;") >= 6
