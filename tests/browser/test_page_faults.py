"""Failing disks and files under the whole application: nothing is lost, and the page says what is wrong."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from browser import leave, needs_browser, show, wait_for
from page_helpers import open_page
from studio_app import APP, running

from ovi_studio.core.spec import ClipSpec
from ovi_studio.queue.paths import StudioPaths
from ovi_studio.queue.store import Store

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="mounts a small disk as only Linux can")
MEGABYTE = 2**20
DISK = 160 * MEGABYTE


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small separate file system."""
    place = tmp_path / "disk"
    place.mkdir()
    mount(place, f"size={DISK}", "tmpfs")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def mount(place: Path, options: str, *what: str) -> None:
    kind = ["-t", *what] if what else []
    done = subprocess.run(["mount", *kind, "-o", options, *what, place], check=False, capture_output=True)
    if done.returncode:
        pytest.skip("a file system cannot be mounted here")


def fill(path: Path) -> None:
    """Fill the disk until no byte is left."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(MEGABYTE // 4)):
            pass


def states(client: Any) -> list[str]:
    return [job["state"] for job in client.predict(api_name="/list")]


def queue(client: Any, prompt: str = "a clip") -> None:
    client.predict(prompt, settings={"steps": 1}, api_name="/queue")


@needs_browser
def test_a_full_disk_pauses_the_queue_and_is_shown_on_the_page(disk: Path, tmp_path: Path, chromium: Any) -> None:
    with running(disk / "outputs") as application:
        client = application.client()
        page = open_page(application, chromium)
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(DISK - 60 * MEGABYTE))
        queue(client)
        page.wait_for_selector("#news .news-item >> text=MB are free in the output folder")
        assert states(client) == ["queued"]

        # Nothing can be queued, and waiting jobs stay.
        fill(disk / "more ballast")
        page.fill("#prompt textarea", "one more " * 400)
        page.click("#generate")
        page.wait_for_selector("#notice >> text=no space left")
        assert states(client) == ["queued"]

        ballast.unlink()
        (disk / "more ballast").unlink()
        show(page, "Queue")
        page.click("#pause >> text=Resume")
        page.wait_for_selector(".job >> text=Done")
        page.locator(".news-item button").first.click()
        page.wait_for_selector(".news-item", state="detached")
        leave(page)
    assert len(list((disk / "outputs").glob("*.mp4"))) == 1


@needs_browser
def test_an_output_folder_that_becomes_read_only_pauses_the_queue_and_is_shown_on_the_page(
    disk: Path, tmp_path: Path, chromium: Any
) -> None:
    with running(disk, "--state", str(tmp_path / "state")) as application:
        client = application.client()
        page = open_page(application, chromium)
        queue(client)
        wait_for(lambda: states(client) == ["done"], 120)
        mount(disk, "remount,ro")
        queue(client, "another")
        page.wait_for_selector("#news .news-item >> text=is not writable; change its permissions or choose another one")
        assert states(client) == ["queued", "done"]
        mount(disk, "remount,rw")
        show(page, "Queue")
        page.click("#pause >> text=Resume")
        wait_for(lambda: states(client) == ["done", "done"], 120)
        leave(page)


@needs_browser
def test_a_damaged_database_is_set_aside_and_that_is_shown_on_the_page(tmp_path: Path, chromium: Any) -> None:
    outputs = tmp_path / "outputs"
    with closing(Store.open(outputs)) as store:
        store.add([ClipSpec(prompt="waits", variant="demo")] * 20)
    database = StudioPaths.of(outputs).database
    broken = b"this is no database" * 500
    database.write_bytes(broken)
    with running(outputs) as application:
        page = open_page(application, chromium)
        page.wait_for_selector(
            "#news .news-item >> text=The job database was damaged. It was renamed to jobs.db.damaged-1"
        )
        client = application.client()
        queue(client)
        wait_for(lambda: states(client) == ["done"], 120)
        leave(page)
    assert database.with_name("jobs.db.damaged-1").read_bytes() == broken


def test_an_unusable_folder_ends_the_start_with_a_message(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    command = [sys.executable, str(APP), "--port", "0", "--no-open", "--out", str(tmp_path / "file" / "outputs")]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "cannot be" in ended.stderr
