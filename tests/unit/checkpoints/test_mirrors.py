"""HF_ENDPOINT as people set it: mirrors and caches that leave out, add and redirect what the hub does not."""

import dataclasses
import hashlib
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from hub_server import Faults, HubServer
from hub_variant import EVERYTHING, MODEL, TOKENIZER, VAE, assert_like_hub, fill_hub, get, local, small_variant

from ovi_studio.checkpoints import download
from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import Part, Variant

MIRRORS: dict[str, dict[str, Any]] = {
    "without the hub's headers": {},
    "without an ETag": {"etag": ""},
    "with a weak ETag": {"etag": 'W/"65f-18c"'},
    "with an MD5 as ETag": {"etag": f'"{hashlib.md5(b"").hexdigest()}"'},
    "that ignores ranges": {"ignores_ranges": True},
    "that sends chunks": {"length": "chunked"},
    "that ends a file by ending the connection": {"length": "closed"},
    "that refuses HEAD": {"refuses_head": 405},
    "that knows nothing": {"refuses_head": 501, "length": "chunked", "ignores_ranges": True, "etag": ""},
    "that redirects to a CDN that refuses HEAD": {"redirects": True, "refuses_head": 403},
}
for status in (301, 302, 307, 308):
    MIRRORS[f"that redirects to a CDN with {status}"] = {"redirects": True, "redirect_status": status}
MIRRORS["that redirects to itself"] = {"redirects": True, "redirect_status": 307, "redirects_here": True}


@pytest.fixture(params=MIRRORS)
def mirror(request: pytest.FixtureRequest, hub: HubServer) -> HubServer:
    hub.faults = Faults(anonymous=True, **MIRRORS[request.param])
    return hub


@pytest.mark.slow
def test_a_mirror_gives_the_same_files_even_if_its_connection_breaks(mirror: HubServer, directory: Path) -> None:
    mirror.faults.break_after, mirror.faults.breaks = 60_000, 1
    get(directory)
    assert_like_hub(directory, mirror)


@pytest.mark.slow
@pytest.mark.parametrize("mirror", [name for name in MIRRORS if "CDN" in name], indirect=True)
def test_the_token_goes_to_the_endpoint_alone(mirror: HubServer, directory: Path) -> None:
    get(directory)
    tokens = {(request.host, request.token) for request in mirror.requests}
    assert tokens == {("127.0.0.1", "Bearer hf_secret"), ("localhost", None)}


@pytest.mark.parametrize("slash", ["", "/", "//"])
def test_an_endpoint_may_be_below_a_path(
    tmp_path: Path, hub: HubServer, directory: Path, slash: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_hub(tmp_path / "other")
    with HubServer(tmp_path / "other", "/api/huggingface") as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url + slash)
        get(directory)
        assert_like_hub(directory, server)
        assert {request.file for request in server.requests} == EVERYTHING
    assert hub.requests == []


@pytest.mark.parametrize("address", ["hf-mirror.com", "ftp://hub", "https://", "http://hub:port", "http://hub:99999"])
def test_an_endpoint_that_is_no_address_is_one_sentence(
    hub: HubServer, directory: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises(JobError, match=r"^HF_ENDPOINT is '.*'; write an address such as https"):
        download.plan(small_variant(), directory)


def known(hub: HubServer, part: Part, file: str, sha256: str | None = None) -> Variant:
    """The small variant, with the size and hash of one published file."""
    variant, content = small_variant(), (hub.root / file).read_bytes()
    (source,) = variant.files[part]
    source = dataclasses.replace(source, size=len(content), sha256=sha256 or hashlib.sha256(content).hexdigest())
    return dataclasses.replace(variant, files={**variant.files, part: (source,)})


def test_a_mirror_without_hashes_is_checked_by_the_hash_of_the_published_file(hub: HubServer, directory: Path) -> None:
    hub.faults.anonymous, hub.faults.etag, hub.faults.corrupts = True, "", True
    variant = known(hub, Part.TRANSFORMER, MODEL)
    with pytest.raises(JobError, match=r"model.safetensors was damaged in transit, or is another file .*HF_ENDPOINT"):
        download.fetch(download.plan(variant, directory), lambda _: None)
    assert not list(directory.rglob("model*"))
    hub.faults.corrupts = False
    assert download.fetch(download.plan(variant, directory), lambda _: None).complete


def test_an_etag_that_only_looks_like_a_hash_does_not_condemn_the_published_file(
    hub: HubServer, directory: Path
) -> None:
    hub.faults.anonymous, hub.faults.etag = True, f'"{"ab" * 32}"'
    plan = download.plan(known(hub, Part.VIDEO_VAE, VAE), directory)
    assert {file.sha256 for file in plan.files if file.source.path == "vae.pth"} == {
        hashlib.sha256((hub.root / VAE).read_bytes()).hexdigest()
    }


def test_the_hub_itself_may_have_a_newer_file_than_the_known_one(hub: HubServer, directory: Path) -> None:
    variant = known(hub, Part.TRANSFORMER, MODEL, sha256="0" * 64)
    assert download.fetch(download.plan(variant, directory), lambda _: None).complete


@pytest.mark.parametrize("length", ["announced", "chunked", "closed"])
def test_what_a_mirror_cuts_short_is_not_taken_for_a_model(hub: HubServer, directory: Path, length: str) -> None:
    for file in (MODEL, VAE):
        (hub.root / file).write_bytes((hub.root / file).read_bytes()[:-1000])
    hub.faults.anonymous, hub.faults.etag, hub.faults.length = True, "", length
    with pytest.raises(JobError, match=r"model.safetensors (was damaged in transit|cannot be downloaded)"):
        get(directory)
    assert not local(directory, MODEL).exists()


def test_a_mirror_with_a_file_of_another_size_is_refused_before_the_download(hub: HubServer, directory: Path) -> None:
    variant = known(hub, Part.TRANSFORMER, MODEL)
    (hub.root / MODEL).write_bytes((hub.root / MODEL).read_bytes()[:50_000])
    hub.faults.anonymous = True
    with pytest.raises(JobError, match=r"has a file of 50\.0 kB for someone/ovi/model.safetensors, which is about 200"):
        download.plan(variant, directory)


def test_a_login_page_that_appears_after_the_plan_is_not_saved_as_a_model(hub: HubServer, directory: Path) -> None:
    hub.faults.anonymous, hub.faults.etag, hub.faults.length = True, "", "chunked"
    plan = download.plan(small_variant(), directory)
    hub.faults.web_page = True
    with pytest.raises(JobError):
        download.fetch(plan, lambda _: None)
    assert not [path for path in directory.rglob("*") if path.suffix not in {".part", ".lock"} and path.is_file()]


@pytest.mark.slow
def test_a_wait_that_the_hub_asks_for_is_waited_and_can_be_stopped(hub: HubServer, directory: Path) -> None:
    plan = download.plan(small_variant(), directory)
    hub.faults.status_of, hub.faults.retry_after = {MODEL: 429}, "1"
    begin, ends = time.monotonic(), []

    def recover(progress: download.DownloadProgress) -> None:
        if len(hub.gets()) == 1 and not ends:
            ends.append(time.monotonic())
            hub.faults.status_of = {}

    download.fetch(plan, recover)
    assert ends
    assert time.monotonic() - begin >= 1
    assert_like_hub(directory, hub)


@pytest.mark.parametrize(("text", "words"), [("3600", "wait 60 minutes"), ("DATE", r"wait (59|60) minutes")])
def test_a_wait_that_is_too_long_is_told_instead(hub: HubServer, directory: Path, text: str, words: str) -> None:
    plan = download.plan(small_variant(), directory)
    hub.faults.status_of = {MODEL: 429}
    hub.faults.retry_after = text.replace("DATE", formatdate(time.time() + 3600, usegmt=True))
    with pytest.raises(JobError, match=rf"overloaded \(429 .*; {words}, then repeat"):
        download.fetch(plan, lambda _: None)
    assert len(hub.gets()) == 1


@pytest.mark.parametrize(("status", "sentence"), [(407, "refuses the request"), (410, "has no file"), (520, "is down")])
def test_other_refusals_are_one_sentence(hub: HubServer, directory: Path, status: int, sentence: str) -> None:
    hub.faults.status_of = {TOKENIZER[0]: status}
    with pytest.raises(JobError, match=rf"{sentence}.*{status}"):
        download.plan(small_variant(), directory)
