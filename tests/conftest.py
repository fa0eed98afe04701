"""What every test may have: no network, a cache of its own, and a model that is as small as a model can be."""

import copy
import gc
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import leftovers
import pytest
from places import PYTHON_PATH, TESTS
from tiny_model import BUNDLE, DIMENSIONS
from warm_start import warm_servers

ROOMS = ("quality", "farm", "ranks", "browser", "process", "gpu")
"""Folders that need more than a processor and a moment; markers of their names say so."""

_SERVERS = pytest.StashKey[ExitStack]()


def pytest_configure(config: pytest.Config) -> None:
    cache = tempfile.TemporaryDirectory(prefix="ovi-test-cache-", ignore_cleanup_errors=True)
    config.add_cleanup(cache.cleanup)
    # Before anything imports these libraries, and for every process that a test starts.
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "OVI_CACHE_DIR": cache.name}
    # Nor may a test find the files of whoever runs it.
    os.environ["HF_HUB_CACHE"] = str(Path(cache.name) / "hub")
    # Models this small gain nothing from threads, and wait for each other's on a machine that is busy.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Every process that starts would compile this package once more, and every worker rewrite all assertions.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    # Code that torch makes for a test runs a few times: to find out which vectors there are would take longer.
    os.environ["TORCHINDUCTOR_VEC_ISA_OK"] = "0"
    # Whoever stops a run with SIGTERM wants what it has started to be ended, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    config.pluginmanager.register(leftovers)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by its room, and begin with the files that take long, so that workers end together.

    Those are the rooms, in their order, and then the unit tests that share a file with a slow one.
    """
    rooms = {item: item.path.relative_to(TESTS).parts[0] for item in items}
    for item, room in rooms.items():
        if room in ROOMS:
            item.add_marker(room)
    slow = {item.path for item in items if item.get_closest_marker("slow")}

    def place(item: pytest.Item) -> tuple[int, bool]:
        room = rooms[item]
        return ROOMS.index(room) if room in ROOMS else len(ROOMS), item.path not in slow

    items.sort(key=place)


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash[_SERVERS] = servers = ExitStack()
    if not hasattr(session.config, "workerinput") and sys.platform != "win32":
        servers.enter_context(warm_servers())


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End the processes that fork others, before they would be some that tests have left behind."""
    session.config.stash[_SERVERS].close()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    from ovi_studio.core.imports import without_collecting

    with without_collecting():
        found = yield
        # The modules stay for as long as this process.
        gc.freeze()
        # Pages of Gradio and graphs of torch are many objects, and tests soon end: to look for garbage takes longer.
        gc.set_threshold(200_000, 50, 50)
        return found


@pytest.fixture(autouse=True)
def _online_for_a_hub_on_this_machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "hub" in request.fixturenames:
        import huggingface_hub

        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def tiny_dimensions() -> dict[str, Any]:
    """Of every model in `tiny_bundle`; the test may change them."""
    return copy.deepcopy(DIMENSIONS)


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the variant `tiny`, complete and untrained, in float32; not to be changed."""
    import torch

    from ovi_studio.demo.bundle_writer import build_models, write_bundle

    directory = tmp_path_factory.mktemp("tiny_bundle")
    write_bundle(BUNDLE, build_models(DIMENSIONS), directory, torch.float32)
    return directory


@pytest.fixture(scope="session")
def tiny_pipeline(tiny_bundle: Path) -> Any:
    """The pipeline of `tiny_bundle` on the CPU in float32."""
    import torch

    from ovi_studio.checkpoints.layout import require
    from ovi_studio.runtime.compute import Compute
    from ovi_studio.runtime.pipeline import Pipeline

    return Pipeline.load(require("tiny", tiny_bundle), Compute(torch.device("cpu"), torch.float32))


@pytest.fixture
def dataset(tmp_path: Path) -> Any:
    """Ten encoded clips of two kinds, which a model of `training_helpers.build` learns in seconds."""
    from training_helpers import write_samples

    from ovi_studio.training.cache import LatentDataset

    write_samples(tmp_path / "cache")
    return LatentDataset(tmp_path / "cache")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`cuda(24, count=1, desktop=False)`: from then on `torch.cuda` answers as such cards would (see `fake_cuda`)."""
    from fake_cuda import FakeCuda, cards

    def install(gigabytes: int = 24, count: int = 1, *, desktop: bool = False) -> FakeCuda:
        made = FakeCuda(cards(gigabytes, count, desktop=desktop))
        made.install(lambda target, name, value: monkeypatch.setattr(target, name, value, raising=False))
        return made

    return install


@pytest.fixture
def graphs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.compile` traces functions into graphs, and makes no code of them, which takes a minute on a CPU.

    That the code computes the same is shown in `test_transformer.py`.
    """
    import torch

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))


@pytest.fixture
def python_environment() -> dict[str, str]:
    """For a process that imports this package from whatever folder it runs in."""
    paths = [PYTHON_PATH, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The browser; pages are opened with `browser.new_page`."""
    from browser import open_browser

    with open_browser() as found:
        yield found


@pytest.fixture(scope="module")
def kept() -> Iterator[list[Any]]:
    """The page with which tests of a module go on, if it is as they expect it (see `browser.go_on`)."""
    from browser import leave

    pages: list[Any] = []
    yield pages
    for page in pages:
        leave(page)


@pytest.fixture(scope="session")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """`app.py` in a process of its own; tests that use it leave no job that waits or runs (see `client`)."""
    from studio_app import running

    with running(tmp_path_factory.mktemp("application") / "outputs") as found:
        yield found


@pytest.fixture(scope="module")
def tab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The tab that the module names in `TAB` (title and builder), on a server and with a studio of its own."""
    from tab_server import serve_tab

    folder = tmp_path_factory.mktemp("tab")
    with serve_tab(folder / "outputs", folder / "checkpoints", *request.module.TAB) as found:
        yield found


@pytest.fixture
def client(application: Any) -> Iterator[Any]:
    """To line up jobs over the API; the queue is empty before and after the test."""
    from contextlib import closing

    from browser import wait_for

    from ovi_studio.queue.store import Store

    with closing(Store.open(application.outputs)) as store:
        store.clear_finished()
        yield application.shared_client
        store.cancel(store.ids())
        store.resume()
        wait_for(lambda: not store.ids(states=["running"]), 120)
        store.clear_finished()


@pytest.fixture
def page(application: Any, chromium: Any, client: Any) -> Iterator[Any]:
    """The whole page in a browser."""
    from browser import leave
    from page_helpers import open_page

    page = open_page(application, chromium)
    yield page
    leave(page)
