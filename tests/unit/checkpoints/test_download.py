"""Downloads against a hub on this machine; nothing here touches the network."""

import dataclasses
import hashlib
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import huggingface_hub
import pytest
from hub_server import HubServer
from hub_variant import EVERYTHING, MODEL, TOKENIZER, VAE, assert_like_hub, copy, get, local, small_variant
from places import PYTHON_PATH

from ovi_studio.checkpoints import download, hashes
from ovi_studio.checkpoints.layout import take_inventory
from ovi_studio.core.errors import JobError


def test_an_empty_directory_is_filled_in_the_official_layout(hub: HubServer, directory: Path) -> None:
    get(directory)
    assert_like_hub(directory, hub)
    assert {request.file for request in hub.gets()} == EVERYTHING
    assert len(hub.gets()) == len(EVERYTHING)


def test_a_plan_tells_exact_sizes_reasons_and_licences(
    hub: HubServer, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy(hub, directory, *TOKENIZER)
    usage = shutil.disk_usage(directory)  # asked once: other tests write to the same disk meanwhile
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    plan = download.plan(small_variant(), directory)
    assert [file.source.path for file in plan.files] == ["model.safetensors", "vae.pth"]
    assert [file.size for file in plan.files] == [(hub.root / MODEL).stat().st_size, (hub.root / VAE).stat().st_size]
    assert {file.reason for file in plan.files} == {"is missing"}
    assert plan.total == sum(file.size for file in plan.files)
    assert plan.already == 0
    assert plan.free == usage.free
    assert not hub.gets()
    text = download.format_plan(plan)
    assert "200.1 kB  Ovi/model.safetensors  (someone/ovi, CC-BY-NC-4.0)" in text
    assert "250.2 kB  in total;" in text


def test_files_that_are_whole_are_neither_asked_for_nor_touched(hub: HubServer, directory: Path) -> None:
    copy(hub, directory, MODEL, *TOKENIZER)
    before = {file: local(directory, file).stat().st_mtime_ns for file in (MODEL, *TOKENIZER)}
    get(directory)
    assert {request.file for request in hub.requests} == {VAE}
    assert before == {file: local(directory, file).stat().st_mtime_ns for file in before}


def test_a_complete_directory_asks_the_hub_nothing(hub: HubServer, directory: Path) -> None:
    copy(hub, directory, *EVERYTHING)
    assert get(directory) == []
    assert hub.requests == []
    assert "nothing is downloaded" in download.format_plan(download.plan(small_variant(), directory))


def test_a_part_that_is_here_in_another_form_is_not_fetched(hub: HubServer, directory: Path) -> None:
    copy(hub, directory, MODEL, *TOKENIZER)
    shutil.copy(hub.root / MODEL, directory / "Wan" / "vae.safetensors")
    assert download.plan(small_variant(), directory).files == ()


def test_a_damaged_file_is_fetched_again_and_stays_until_then(hub: HubServer, directory: Path) -> None:
    copy(hub, directory, *EVERYTHING)
    target = local(directory, MODEL)
    target.write_bytes(target.read_bytes()[:-1000])
    plan = download.plan(small_variant(), directory)
    assert [file.source.path for file in plan.files] == ["model.safetensors"]
    assert "where its header says" in plan.files[0].reason
    hub.faults.status = 503
    with pytest.raises(JobError, match="down or overloaded"):
        download.fetch(plan, lambda _: None)
    assert target.is_file()
    hub.faults.status = 0
    download.fetch(plan, lambda _: None)
    assert_like_hub(directory, hub)


@pytest.mark.parametrize("reset", [False, True])
def test_a_connection_that_breaks_in_the_middle_is_taken_up_where_it_broke(
    hub: HubServer, directory: Path, reset: bool
) -> None:
    hub.faults.break_after, hub.faults.breaks, hub.faults.reset = 60_000, 2, reset
    get(directory)
    assert_like_hub(directory, hub)
    ranges = [request.range for request in hub.gets() if request.file == MODEL]
    # A reset discards what the client has not read yet, so only the orderly end has exact numbers.
    starts = [int(text.removeprefix("bytes=").rstrip("-")) for text in ranges if text]
    assert len(ranges) == 3
    assert starts == sorted(starts)
    assert reset or starts == [60_000, 120_000]


def test_a_hub_that_breaks_every_connection_is_given_up_and_resumed_by_the_next_call(
    hub: HubServer, directory: Path
) -> None:
    hub.faults.break_after, hub.faults.breaks = 60_000, 1
    plan = download.plan(small_variant(), directory)

    def fail_after_the_first_break(progress: download.DownloadProgress) -> None:
        if progress.done >= 60_000:
            hub.faults.status = 503

    with pytest.raises(JobError, match=r"503 .* then repeat the command: it resumes\.$"):
        download.fetch(plan, fail_after_the_first_break)
    assert not local(directory, MODEL).exists()
    hub.faults.status = 0
    again = download.plan(small_variant(), directory)
    assert again.already > 0
    assert "of it already downloaded" in download.format_plan(again)
    hub.requests.clear()
    seen = get(directory)
    assert seen[0].done == again.already
    assert next(request.range for request in hub.gets() if request.file == MODEL) == f"bytes={again.already}-"
    assert_like_hub(directory, hub)


def test_a_hub_that_sends_nothing_is_given_up_after_a_few_attempts(hub: HubServer, directory: Path) -> None:
    plan = download.plan(small_variant(), directory)
    hub.faults.break_after, hub.faults.breaks = 0, 1000
    with pytest.raises(JobError, match=r"^someone/ovi/model.safetensors cannot be downloaded from .* it resumes\.$"):
        download.fetch(plan, lambda _: None)
    assert len(hub.gets()) == 1 + len(download.RETRY_WAITS)


def test_whoever_watches_can_end_the_download_and_it_resumes(hub: HubServer, directory: Path) -> None:
    class Enough(Exception):
        pass

    def stop(progress: download.DownloadProgress) -> None:
        if progress.done:
            raise Enough

    with pytest.raises(Enough):
        download.fetch(download.plan(small_variant(), directory), stop)
    assert download.plan(small_variant(), directory).already > 0
    get(directory)
    assert_like_hub(directory, hub)


@pytest.mark.slow
def test_a_process_that_is_killed_in_the_middle_resumes_when_it_is_started_again(
    hub: HubServer, directory: Path
) -> None:
    hub.faults.stall_after = 120_000
    # A child reads HF_ENDPOINT as the command line does: when huggingface_hub is imported.
    command = [sys.executable, "-c", "import sys, test_download; test_download.fetch_in_child(sys.argv[1])", directory]
    paths = [str(Path(__file__).parent), PYTHON_PATH]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    with subprocess.Popen(command, env=environment) as child:
        assert hub.stalled.wait(60)
        part = download.plan(small_variant(), directory).files[0]
        while not part.part.exists() or part.part.stat().st_size < 110_000:
            assert child.poll() is None
        child.kill()
    hub.release.set()
    arrived = part.part.stat().st_size
    assert not local(directory, MODEL).exists()
    hub.requests.clear()
    subprocess.run(command, env=environment, check=True, timeout=60)
    assert next(request.range for request in hub.gets() if request.file == MODEL) == f"bytes={arrived}-"
    assert_like_hub(directory, hub)


def fetch_in_child(directory: str) -> None:
    download.fetch(download.plan(small_variant(), Path(directory)), lambda _: None)


def test_a_server_that_ignores_ranges_still_gives_the_right_file(hub: HubServer, directory: Path) -> None:
    hub.faults.break_after, hub.faults.breaks, hub.faults.ignores_ranges = 60_000, 1, True
    get(directory)
    assert_like_hub(directory, hub)


def test_a_redirect_to_another_host_keeps_the_range_and_not_the_token(hub: HubServer, directory: Path) -> None:
    hub.faults.break_after, hub.faults.breaks, hub.faults.redirects = 60_000, 1, True
    get(directory)
    assert_like_hub(directory, hub)
    heads = [request for request in hub.requests if request.method == "HEAD"]
    assert {(request.host, request.token) for request in heads} == {("127.0.0.1", "Bearer hf_secret")}
    large = [request for request in hub.gets() if request.file != TOKENIZER[0]]
    assert {(request.host, request.token) for request in large} == {("localhost", None)}
    assert "bytes=60000-" in [request.range for request in hub.gets()]


def test_what_was_begun_from_an_older_commit_is_dropped(hub: HubServer, directory: Path) -> None:
    stale = local(directory, MODEL).with_name("model.safetensors.0123456789ab.part")
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"old")
    get(directory)
    assert_like_hub(directory, hub)
    assert {request.range for request in hub.gets()} == {None}


def test_content_that_is_not_what_the_hub_announced_is_refused_and_removed(hub: HubServer, directory: Path) -> None:
    hub.faults.corrupts = True
    with pytest.raises(JobError, match="was damaged in transit"):
        get(directory)
    assert not local(directory, MODEL).exists()
    hub.faults.corrupts = False
    get(directory)
    assert_like_hub(directory, hub)


def test_a_full_disk_is_refused_before_any_byte(
    hub: HubServer, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2 * 10**9, 10**9, 10**9))
    plan = download.plan(small_variant(), directory)
    with pytest.raises(JobError, match=r"needs 250\.\d kB .* has 1\.0 GB free; free up 250\.\d kB there"):
        download.fetch(plan, lambda _: None)
    assert hub.gets() == []
    assert not list(directory.rglob("*.part"))


def test_a_place_that_cannot_be_written_is_one_sentence(hub: HubServer, directory: Path) -> None:
    directory.parent.mkdir(exist_ok=True)
    directory.write_text("a file where the folder should be")
    with pytest.raises(JobError, match=r"ckpts cannot be written \(.*\); .* --ckpt-dir"):
        download.fetch(download.plan(small_variant(), directory), lambda _: None)


@pytest.mark.slow
def test_a_second_download_into_the_directory_waits_its_turn(hub: HubServer, directory: Path) -> None:
    plan = download.plan(small_variant(), directory)

    def meanwhile(progress: download.DownloadProgress) -> None:
        with pytest.raises(JobError, match="Another download into"):
            download.fetch(plan, lambda _: None)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        download.fetch(plan, meanwhile)


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, r"denies access to someone/ovi/model.safetensors \(401\).*HF_TOKEN, then repeat"),
        (403, r"denies access to someone/ovi/model.safetensors \(403\).*accept its terms at http.*/someone/ovi"),
        (404, r"has no file someone/ovi/model.safetensors \(404\); check HF_ENDPOINT"),
        (429, r"is down or overloaded \(429"),
        (500, r"is down or overloaded \(500 .*wait a few minutes, then repeat"),
    ],
)
def test_a_refusal_of_the_hub_is_one_sentence(hub: HubServer, directory: Path, status: int, sentence: str) -> None:
    hub.faults.status_of = {MODEL: status}
    with pytest.raises(JobError, match=sentence) as caught:
        download.plan(small_variant(), directory)
    assert "\n" not in str(caught.value)
    hub.faults.status_of = {}
    plan = download.plan(small_variant(), directory)
    hub.faults.status_of = {MODEL: status}
    with pytest.raises(JobError, match=sentence):
        download.fetch(plan, lambda _: None)


def test_no_server_is_one_sentence(hub: HubServer, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        JobError, match=r"cannot be downloaded from http://127.0.0.1:9 \(.*refused\); check the network"
    ):
        download.plan(small_variant(), directory)


def test_offline_mode_is_one_sentence(hub: HubServer, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(JobError, match="HF_HUB_OFFLINE is set; unset it"):
        download.plan(small_variant(), directory)


def test_a_login_page_in_place_of_the_hub_is_recognised(hub: HubServer, directory: Path) -> None:
    hub.faults.web_page = True
    with pytest.raises(JobError, match=r"does not answer like a hub for .*, but with a web page"):
        download.plan(small_variant(), directory)


def test_progress_grows_to_the_whole_and_names_the_files(hub: HubServer, directory: Path) -> None:
    seen = get(directory)
    done = [progress.done for progress in seen]
    assert done == sorted(done)
    assert seen[-1].done == seen[-1].total == sum((hub.root / file).stat().st_size for file in EVERYTHING)
    assert seen[0].file == "Ovi/model.safetensors"
    assert download.format_progress(seen[-1]).startswith("100%  250.2 kB of 250.2 kB  ")


def test_a_bundle_is_never_downloaded(hub: HubServer, directory: Path, tmp_path: Path) -> None:
    copy(hub, tmp_path / "bundle", *EVERYTHING)
    bundle = dataclasses.replace(small_variant(), root=tmp_path / "bundle")
    plan = download.plan(bundle, directory)
    assert plan.files == ()
    assert "it is never downloaded" in download.format_plan(plan)
    assert download.fetch(plan, lambda _: None).complete
    local(tmp_path / "bundle", VAE).unlink()
    with pytest.raises(JobError, match=r"write the bundle in .* again"):
        download.plan(bundle, directory)
    assert hub.requests == []


def test_only_the_incomplete_parts_count_as_missing(hub: HubServer, directory: Path) -> None:
    copy(hub, directory, MODEL, TOKENIZER[0])
    missing = download.missing_files(take_inventory(small_variant(), directory))
    assert [file.source.path for file in missing] == ["google/spiece.model", "vae.pth"]


def test_a_downloaded_file_need_not_be_read_again_for_its_hash(
    hub: HubServer, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    get(directory)
    monkeypatch.setattr(hashlib, "file_digest", None)
    expected = hashlib.sha256((hub.root / MODEL).read_bytes()).hexdigest()
    assert hashes.file_sha256(local(directory, MODEL)) == expected


@pytest.mark.parametrize("memory", ["", "{", "[]", '{"PATH": 7}', '{"PATH": [1, 2]}'])
def test_a_damaged_memory_of_hashes_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: str) -> None:
    monkeypatch.setenv("OVI_CACHE_DIR", str(tmp_path / "cache"))
    file = tmp_path / "file"
    file.write_bytes(b"one")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "sha256.json").write_text(memory.replace("PATH", str(file)))
    assert hashes.file_sha256(file) == hashlib.sha256(b"one").hexdigest()
    assert hashes.file_sha256(file) == hashlib.sha256(b"one").hexdigest()


def test_a_changed_file_gets_a_new_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVI_CACHE_DIR", str(tmp_path / "cache"))
    file = tmp_path / "file"
    for content in (b"one", b"two"):
        file.write_bytes(content)
        os.utime(file, ns=(0, len(list(tmp_path.iterdir()))))
        assert hashes.file_sha256(file) == hashlib.sha256(content).hexdigest()


def test_a_memory_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    monkeypatch.setenv("OVI_CACHE_DIR", str(tmp_path / "cache"))
    assert hashes.file_sha256(tmp_path / "cache") == hashlib.sha256(b"a file where the folder should be").hexdigest()


def test_hashes_are_computed_in_the_background(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVI_CACHE_DIR", str(tmp_path / "cache"))
    files = [tmp_path / name for name in ("one", "two")]
    for file in files:
        file.write_text(file.name)
    work = hashes.BackgroundHash(files)
    assert work.result() == {file: hashlib.sha256(file.name.encode()).hexdigest() for file in files}
    with pytest.raises(FileNotFoundError):
        hashes.BackgroundHash([tmp_path / "nothing"]).result()
