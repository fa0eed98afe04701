"""`/metrics`, read as Prometheus reads it, by a parser of its text format."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.farm.roster import MachineState, MachineStatus, publish
from ovi_studio.queue.estimates import PhaseTimes, record_phase_times
from ovi_studio.queue.model import ClipPhase
from ovi_studio.queue.work import EngineSession
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services.studio import Studio
from ovi_studio.services.upload_folder import UploadFolder
from ovi_studio.web.guard import checker, guard
from ovi_studio.web.hosts import Hosts
from ovi_studio.web.metrics import Metric, format_metrics, metrics_route

SPEC = ClipSpec(prompt="a clip", variant="demo", steps=10)
SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\"n])*",?)*)\})? (\S+)')
LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\\n]|\\[\\"n])*)"')
ESCAPE = re.compile(r"\\.")
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def unescape(escape: re.Match[str]) -> str:
    return {r"\\": "\\", r"\"": '"', r"\n": "\n"}[escape[0]]


def parse(text: str) -> Samples:
    """Read the text format; asserts what its specification demands."""
    assert text.endswith("\n")
    found: Samples = {}
    kinds: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("# HELP "):
            continue
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in kinds, "the samples of a name stand together"
            kinds[name] = kind
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        name, labels, value = match.groups()
        assert name == list(kinds)[-1], "a sample stands below its type"
        assert name.endswith("_total") == (kinds[name] == "counter")
        pairs = frozenset((key, ESCAPE.sub(unescape, text)) for key, text in LABEL.findall(labels or ""))
        assert (name, pairs) not in found, "every sample stands once"
        found[name, pairs] = float(value)
    return found


def value(found: Samples, name: str, **labels: str) -> float:
    return found[f"ovi_studio_{name}", frozenset(labels.items())]


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    studio = Studio.open(tmp_path / "outputs", RuntimeOptions(checkpoint_directory=tmp_path / "ckpts"))
    yield studio
    studio.close()


def client(studio: Studio, auth: object = None) -> TestClient:
    app = Starlette(
        routes=[metrics_route(studio)],
        middleware=[guard(Hosts("127.0.0.1", []), UploadFolder(studio.paths.uploads))],
    )
    app.auth, app.cookie_id, app.tokens = auth, "x", {}
    return TestClient(app, base_url="http://127.0.0.1")


def test_figures_of_queue_phases_and_machines_are_read_by_a_parser(studio: Studio) -> None:
    database = studio.store.database
    studio.store.add([SPEC] * 3)
    times = PhaseTimes(text=1.0, step=2.0, decode=5.0, write=2.0)
    record_phase_times(database, SPEC, times, "farm.rig", {ClipPhase.LOADING: 7.0})
    record_phase_times(database, SPEC, times, "farm.rig")
    publish(database, [MachineStatus("rig", "L4", 22.0, ("demo",), MachineState.SET_ASIDE, free=1.5)])
    with (
        EngineSession(database, "engine-a") as work,
        EngineSession(database, "engine-by-hand"),
        EngineSession(database, "farm.rig-b"),
    ):
        work.claim()
        answer = client(studio).get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = parse(answer.text)
    assert (value(found, "jobs", state="queued"), value(found, "jobs", state="running")) == (2, 1)
    assert value(found, "queue_paused") == 0
    assert value(found, "clips_total", machine="farm.rig") == 2
    phases = {"loading": 7, "text": 2, "denoising": 40, "decoding": 10, "writing": 4}
    for phase, seconds in phases.items():
        assert value(found, "phase_seconds_total", machine="farm.rig", phase=phase) == seconds
    for state in MachineState:
        on = value(found, "machine_state", machine="farm.rig", state=state.replace(" ", "_"))
        assert on == (state is MachineState.SET_ASIDE)
    assert value(found, "machine_state", machine="engine", state="starting") == 1
    assert value(found, "machine_memory_bytes", machine="farm.rig") == 22 * 2**30
    assert value(found, "machine_free_memory_bytes", machine="farm.rig") == 1.5 * 2**30
    assert value(found, "machine_step_seconds", machine="farm.rig") == 2.0
    assert value(found, "machine_clips_per_hour", machine="farm.rig") == pytest.approx(3600 / 28)


def test_labels_may_contain_anything() -> None:
    hostile = 'a "name" \\ with\na line'
    found = parse(
        format_metrics([Metric("x", "gauge", "Help.", [({"machine": hostile}, 1)]), Metric("y", "gauge", "", [])])
    )
    assert found == {("ovi_studio_x", frozenset({("machine", hostile)})): 1.0}


def test_a_page_with_a_login_asks_prometheus_for_it_and_other_names_are_refused(studio: Studio) -> None:
    asked = client(studio, checker("studio", "right"))

    def get(password: str | None, **headers: str) -> int:
        if password is not None:
            headers["Authorization"] = f"Basic {base64.b64encode(f'studio:{password}'.encode()).decode()}"
        return asked.get("/metrics", headers=headers).status_code

    assert get(None) == 401
    assert get("wrong") == 401
    assert get("right") == 200
    assert get("right", Host="evil.example") == 421
    assert get("right", Origin="http://evil.example") == 403


def test_a_queue_that_cannot_be_read_is_an_answer_without_folders() -> None:
    def fails() -> None:
        raise JobError("The job database /home/ann/jobs.db is damaged; restart Ovi Studio.")

    broken = SimpleNamespace(settings=lambda prefix: fails())
    studio = SimpleNamespace(store=SimpleNamespace(database=broken))
    app = Starlette(routes=[metrics_route(studio)])
    answer = TestClient(app).get("/metrics")
    assert (answer.status_code, answer.text) == (503, "The job database jobs.db is damaged; restart Ovi Studio.")
