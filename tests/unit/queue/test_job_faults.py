"""The durable queue on disks and with files that fail: refused with advice, or kept aside, and nothing is lost."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from job_helpers import SPEC, STEP, queued, run_python, specs

from ovi_studio.core.errors import JobError
from ovi_studio.queue import database as database_module
from ovi_studio.queue.connections import KEPT
from ovi_studio.queue.paths import StudioPaths
from ovi_studio.queue.rows import spec_columns
from ovi_studio.queue.schema import MIGRATIONS
from ovi_studio.queue.store import Store
from ovi_studio.queue.work import EngineSession


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store.open(tmp_path / "outputs")) as store:
        yield store


# Where things lie


def test_state_lies_beside_the_clips_and_never_among_them(tmp_path):
    paths = StudioPaths.of(tmp_path / "clips")
    assert paths.database == tmp_path / ".studio" / "clips" / "jobs.db"
    assert StudioPaths.of(tmp_path / "other").state != paths.state
    with pytest.raises(JobError, match="browsers can download"):
        StudioPaths.of(tmp_path / "clips", tmp_path / "clips" / "state")
    with pytest.raises(JobError, match="root of a disk"):
        StudioPaths.of("/")
    with closing(Store.open(tmp_path / "clips", tmp_path / "elsewhere")) as store:
        store.add([SPEC])
    assert list((tmp_path / "clips").iterdir()) == []
    assert (tmp_path / "elsewhere" / ".gitignore").read_text() == "*\n"


def test_two_names_of_one_folder_are_one_studio(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert StudioPaths.of(tmp_path / "link") == StudioPaths.of(tmp_path / "real")


# Disks and files that fail


def damage_header(path: Path) -> None:
    path.write_bytes(b"this is no database" * 500)


def damage_page(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096 * 3 : 4096 * 6] = os.urandom(4096 * 3)
    path.write_bytes(data)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:6000])


@pytest.mark.parametrize("damage", [damage_header, damage_page, cut_off])
def test_damaged_database_is_kept_aside_and_a_new_one_begun(tmp_path, damage):
    for number in (1, 2):
        with closing(Store.open(tmp_path / "outputs")) as store:
            store.add(specs(100))
        # The connection that was closed last has moved everything into the file itself.
        database = store.paths.database
        damage(database)
        broken = database.read_bytes()
        database.with_name("jobs.db-wal").write_bytes(b"rest")
        with closing(Store.open(tmp_path / "outputs")) as again:
            assert again.jobs() == []
            again.add([SPEC])
            assert f"jobs.db.damaged-{number}" in again.database.notices()[0].text
        assert database.with_name(f"jobs.db.damaged-{number}").read_bytes() == broken
        assert database.with_name(f"jobs.db.damaged-{number}-wal").exists()


def test_engine_notices_that_its_database_was_set_aside(store):
    assert not store.database.replaced()
    store.paths.database.rename(store.paths.state / "aside")
    assert store.database.replaced()


def test_database_of_a_newer_version_is_refused_and_left_alone(store):
    store.add([SPEC])
    store.close()
    with closing(sqlite3.connect(store.paths.database)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(JobError, match="newer version"):
        Store.open(store.paths.outputs)
    assert not list(store.paths.state.glob("*.damaged-*"))


def test_database_of_an_older_version_is_brought_up_to_date_with_its_jobs(tmp_path):
    paths = StudioPaths.of(tmp_path / "outputs")
    paths.prepare()
    with closing(sqlite3.connect(paths.database, isolation_level=None)) as connection:
        for statement in MIGRATIONS[0]:
            connection.execute(statement)
        connection.execute("PRAGMA user_version = 1")
        connection.execute("INSERT INTO batches VALUES (1, 'old', 0)")
        columns = {**spec_columns(SPEC), "id": "old", "batch": 1, "state": "queued", "priority": 0, "position": 1}
        names = ", ".join(columns)
        places = ", ".join(f":{name}" for name in columns)
        connection.execute(f"INSERT INTO jobs ({names}, created) VALUES ({places}, 0)", columns)
    with closing(Store.open(tmp_path / "outputs")) as store, EngineSession(store.database, "worker") as work:
        job = work.claim()
        assert (job.id, job.spec) == ("old", SPEC)
        work.report(job, replace(STEP, fraction=0.5))
        assert store.get("old").progress.fraction == 0.5


def test_start_that_was_cut_off_leaves_nothing_that_the_next_one_stumbles_over(tmp_path):
    paths = StudioPaths.of(tmp_path / "outputs")
    paths.prepare()
    for name in ("jobs.db.part", "jobs.db.part-wal", "jobs.db-wal"):
        (paths.state / name).write_bytes(b"cut off")
    with closing(Store.open(tmp_path / "outputs")) as store:
        store.add([SPEC])
        assert store.database.notices() == []
        assert not (paths.state / "jobs.db.part").exists()
    with closing(Store.open(tmp_path / "outputs")) as store:
        assert len(store.jobs()) == 1


@pytest.mark.parametrize("beside", [None, "-wal"])
def test_a_database_that_was_emptied_is_set_aside_with_a_notice(tmp_path, beside):
    with closing(Store.open(tmp_path / "outputs")) as store:
        store.add([SPEC])
        paths = store.paths
    paths.database.write_bytes(b"")
    if beside:
        paths.database.with_name(f"jobs.db{beside}").write_bytes(b"x" * 5000)
    with closing(Store.open(tmp_path / "outputs")) as store:
        (notice,) = store.database.notices()
        assert "jobs.db.damaged-1" in notice.text
        assert store.ids() == []
        store.add([SPEC])
    assert paths.database.with_name("jobs.db.damaged-1").exists()
    with closing(Store.open(tmp_path / "outputs")) as store:
        assert len(store.ids()) == 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="open files are counted in /proc")
def test_an_hour_of_bursts_keeps_no_more_files_open_than_a_few(tmp_path):
    """Each burst comes in threads of its own, as a server's do once they were idle for some seconds."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with closing(Store.open(tmp_path / "outputs")) as store:
        store.add([SPEC])
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(200, limits[0]), limits[1]))
        try:
            for _ in range(360):
                with ThreadPoolExecutor(8) as threads:
                    assert list(threads.map(lambda _: len(store.jobs()), range(8))) == [1] * 8
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        database = str(store.paths.database)
        links = [link for link in Path("/proc/self/fd").iterdir() if link.exists()]
        opened = [link for link in links if str(link.readlink()).startswith(database)]
    assert len(opened) <= 3 * (KEPT + 1)


def test_full_disk_is_refused_with_advice_and_nothing_is_lost(tmp_path):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", tmp_path], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        store = Store.open(tmp_path / "outputs")
        kept = store.add(specs(10))
        with pytest.raises(JobError, match="no space left"):
            store.add([replace(SPEC, prompt="x" * 4000)] * 1000)
        assert store.ids() == kept
        store.close()
        with closing(Store.open(tmp_path / "outputs")) as again:
            assert again.ids() == kept
            again.cancel(kept[:1])
            assert queued(again) == kept[1:]
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no limit of file sizes on Windows")
def test_file_that_may_not_grow_is_refused_with_advice_and_nothing_is_lost(store):
    kept = store.add(specs(3))
    code = """
        import resource
        store = Store.open(sys.argv[1])
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        try:
            store.add([replace(SPEC, prompt="x" * 4000)] * 1000)
        except JobError as error:
            print(error)
        print(len(store.ids()))
    """
    output = run_python(code, store.paths.outputs).communicate(timeout=60)[0]
    assert "check its free space" in output or "no space left" in output
    assert output.splitlines()[-1] == "3"
    assert store.ids() == kept


def test_folder_that_cannot_be_made_is_refused_with_advice(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(JobError, match="cannot be"):
        Store.open(tmp_path / "file" / "outputs")


def test_a_read_only_folder_is_refused_with_advice(store):
    store.close()
    folders = [store.paths.state, store.paths.outputs.parent]
    for folder in folders:
        folder.chmod(0o500)
    try:
        if os.access(store.paths.state, os.W_OK):
            pytest.skip("rights do not bind this user")
        with pytest.raises(JobError, match="rights"):
            Store.open(store.paths.outputs)
    finally:
        for folder in folders:
            folder.chmod(0o700)


def test_database_that_somebody_keeps_locked_is_refused_with_advice(store, monkeypatch):
    store.close()
    monkeypatch.setattr(database_module, "BUSY_SECONDS", 0.1)
    with closing(sqlite3.connect(store.paths.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JobError, match="locked"):
            store.add([SPEC])


@pytest.mark.slow
def test_transaction_that_was_reported_survives_the_death_of_the_process(store):
    code = """
        store = Store.open(sys.argv[1])
        while True:
            print(store.add([SPEC])[0], flush=True)
    """
    child = run_python(code, store.paths.outputs)
    said = [child.stdout.readline() for _ in range(20)]
    child.kill()
    said += child.communicate()[0].splitlines()
    assert {line.strip() for line in said if len(line.strip()) == 10} <= set(store.ids())
