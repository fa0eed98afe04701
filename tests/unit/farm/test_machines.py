"""What a machine must have to join, the files that it is sent, and what people ask of it; nothing here needs Ray."""

import argparse
import hashlib
import io
import os
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from ovi_studio.core.errors import FolderError, JobError
from ovi_studio.farm import files
from ovi_studio.farm.command import FarmAddress, add_farm_options, farm_address, join_line, ray_environment, token_file
from ovi_studio.farm.files import Content, FileCache
from ovi_studio.farm.join import join
from ovi_studio.farm.machine import Machine, Versions, differences
from ovi_studio.farm.roster import (
    MachineState,
    MachineStatus,
    Order,
    give_order,
    machines,
    makeable,
    orders,
    publish,
    resumptions,
)
from ovi_studio.queue.store import Store

HEAD = Machine("head", Versions("1.0", "3.11.7", "2.60.0"), variants={"720x720_5s": "a", "demo": "d"})
STATUS = MachineStatus("rig", "RTX 3090", 24.0, ("720x720_5s",), MachineState.IDLE)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store.open(tmp_path / "outputs")) as store:
        yield store


def test_machine_with_the_same_versions_and_some_of_the_same_files_fits():
    assert differences(HEAD, replace(HEAD, name="rig", variants={"demo": "d"})) == []
    assert differences(HEAD, replace(HEAD, variants={"own": "x"})) == []


@pytest.mark.parametrize(
    ("here", "part"),
    [
        (replace(HEAD, versions=replace(HEAD.versions, studio="0.9")), "0.9 here and 1.0 on the head"),
        (replace(HEAD, versions=replace(HEAD.versions, python="3.12.1")), "PYTHON=python3.11.7 ./launch.sh"),
        (replace(HEAD, versions=replace(HEAD.versions, ray="2.59.0")), "pip install ray==2.60.0"),
        (replace(HEAD, variants={"720x720_5s": "b"}), "download 720x720_5s"),
        (replace(HEAD, variants={}), "No variant is complete"),
    ],
    ids=["studio", "python", "ray", "files", "nothing"],
)
def test_each_difference_is_a_sentence_with_what_mends_it(here, part):
    (sentence,) = differences(HEAD, here)
    assert part in sentence


def test_description_survives_the_way_to_the_head_and_labels_are_what_ray_accepts():
    card = replace(HEAD, card="NVIDIA GeForce RTX 3090 (24 GB)", memory=23.7)
    assert Machine.from_json(card.to_json()) == card
    assert card.labels()["ovi-studio/card"] == "NVIDIA-GeForce-RTX-3090-24-GB"
    assert all(len(value) <= 63 for value in card.labels().values())


def content(data: bytes, name: str = "x.safetensors") -> Content:
    return Content(name, hashlib.sha256(data).hexdigest(), len(data))


def test_file_arrives_in_pieces_and_is_not_there_before_the_last(tmp_path):
    cache, wanted = FileCache(tmp_path / "files"), content(b"abcdef", "hash/adapter.safetensors")
    assert cache.lacks([wanted]) == [wanted]
    cache.append(wanted, 0, b"abc")
    assert cache.lacks([wanted]) == [wanted]
    cache.append(wanted, 3, b"def")
    assert cache.lacks([wanted]) == []
    assert cache.path(wanted).read_bytes() == b"abcdef"


def test_file_that_was_damaged_on_the_way_is_refused_and_can_be_sent_again(tmp_path):
    cache, wanted = FileCache(tmp_path), content(b"abcdef")
    with pytest.raises(JobError, match="damaged on its way"):
        cache.append(wanted, 0, b"abcdeg")
    assert list(tmp_path.iterdir()) == []
    cache.append(wanted, 0, b"abcdef")
    with pytest.raises(JobError, match="lost on its way"):
        cache.append(content(b"other", "y"), 3, b"er")


def test_clip_sees_its_own_files_under_their_names_as_long_as_it_lasts(tmp_path):
    cache, folder = FileCache(tmp_path / "files", bound=8), tmp_path / "clip"
    one, other = content(b"abcdef"), content(b"ghijkl", "y")
    cache.append(one, 0, b"abcdef")
    hashed = cache.path(one).stat().st_mtime_ns
    assert cache.lacks([one]) == []
    # Otherwise it would be hashed again for every clip.
    assert cache.path(one).stat().st_mtime_ns == hashed
    cache.lay_out({"adapters/film/soft.safetensors": one}, folder)
    cache.append(other, 0, b"ghijkl")
    assert cache.lacks([one]) == [one]
    assert (folder / "adapters" / "film" / "soft.safetensors").read_bytes() == b"abcdef"
    cache.lay_out({"picture/first.png": other}, folder)
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["first.png"]
    with pytest.raises(FolderError):
        cache.lay_out({"picture/first.png": one}, folder)


def test_cache_keeps_what_was_used_last_below_its_bound(tmp_path):
    cache = FileCache(tmp_path, bound=8)
    old, used, new = (content(data, name) for data, name in ((b"aaa", "a"), (b"bbb", "b"), (b"ccc", "c")))
    for age, (one, data) in enumerate(((old, b"aaa"), (used, b"bbb"))):
        cache.append(one, 0, data)
        os.utime(cache.path(one), (age, age))
    os.utime(cache.path(used), (0, 0))
    os.utime(cache.path(old), (1, 1))
    assert cache.lacks([used]) == []
    cache.append(new, 0, b"ccc")
    assert cache.lacks([old, used, new]) == [old]
    with pytest.raises(JobError, match="too much"):
        cache.append(content(b"0123456789", "big"), 0, b"0")


def test_files_that_other_processes_receive_and_rename_meanwhile_are_left_alone(tmp_path, monkeypatch):
    cache, new = FileCache(tmp_path, bound=8), content(b"ccc", "c")
    arriving = tmp_path / f"{'a' * 64}.{os.getppid()}.part"
    old = tmp_path / ("b" * 64)
    for path in (arriving, old):
        path.write_bytes(b"aaa")
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda folder: [*listed(folder), folder / f"{'d' * 64}.1.part"])
    cache.append(new, 0, b"ccc")
    assert arriving.exists()
    assert not old.exists()
    assert cache.lacks([new]) == []


def test_file_is_read_in_pieces_and_one_that_is_gone_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "PIECE_BYTES", 4)
    for data, pieces in ((b"", [b""]), (b"abcd", [b"abcd"]), (b"abcdef", [b"abcd", b"ef"])):
        (tmp_path / "x").write_bytes(data)
        assert list(files.read_pieces(tmp_path / "x")) == pieces
    with pytest.raises(JobError, match="y cannot be read"):
        list(files.read_pieces(tmp_path / "y"))


def test_full_disk_of_a_machine_is_no_fault_of_the_job(tmp_path, monkeypatch):
    usage = files.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: usage._replace(free=2))
    with pytest.raises(FolderError, match="free up some space"):
        FileCache(tmp_path).append(content(b"abcdef"), 0, b"abcdef")


def test_orders_are_for_machines_that_exist_and_can_be_undone(store):
    publish(store.database, [STATUS])
    assert machines(store.database) == [STATUS]
    assert makeable(store.database) == {"720x720_5s"}
    give_order(store.database, "rig", Order.DRAIN)
    assert orders(store.database) == {"rig": Order.DRAIN}
    give_order(store.database, "rig", None)
    assert orders(store.database) == {}
    give_order(store.database, "rig", None)
    assert resumptions(store.database) == {"rig": 2}
    with pytest.raises(JobError, match="no machine other; there are rig"):
        give_order(store.database, "other", Order.PAUSE)


def test_token_is_made_once_and_is_for_the_owner_alone(store):
    path = token_file(store.paths)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert token_file(store.paths).read_text() == path.read_text()
    assert len(path.read_text()) == 64
    line = join_line(FarmAddress.parse("192.168.1.5"), store.paths)
    assert line == f"RAY_AUTH_TOKEN={path.read_text()} ./launch.sh join 192.168.1.5:6379"
    assert ray_environment(path)["RAY_AUTH_MODE"] == ray_environment(None)["RAY_AUTH_MODE"] == "token"


@pytest.mark.parametrize("name", ["", "a.b", "a/b", "../x", "-a", "a b", "a" * 61])
def test_name_that_cannot_be_part_of_a_files_name_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.setattr("ovi_studio.farm.join.require_ray", lambda: None)
    with pytest.raises(JobError, match="A machine cannot be called"):
        join("192.168.1.5", tmp_path, name=name)


def test_missing_token_is_said_where_nobody_can_be_asked(tmp_path, monkeypatch):
    monkeypatch.setattr("ovi_studio.farm.join.require_ray", lambda: None)
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(JobError, match="token of the farm is missing"):
        join("192.168.1.5", tmp_path)


def test_farm_without_ray_says_how_to_install_it(monkeypatch):
    parser = argparse.ArgumentParser()
    add_farm_options(parser)
    monkeypatch.setattr("ovi_studio.farm.command.find_spec", lambda name: None)
    assert farm_address(parser.parse_args([])) is None
    with pytest.raises(JobError, match="pip install"):
        farm_address(parser.parse_args(["--farm", "192.168.1.5"]))
