"""What the hub is asked: the size and content of a file, and its bytes. Imports no torch.

Functions that ask import this module themselves: huggingface_hub and its HTTP client are a third of what a process
imports that asks for nothing, such as an engine that waits, or `show`.

Endpoint, token, session and errors are huggingface_hub's, with its HF_ENDPOINT, HF_TOKEN and HF_HUB_DOWNLOAD_TIMEOUT.
Its `hf_hub_download` cannot be used: it starts with a new temporary file every time and removes it on failure (1.33 and
2.4), so closing a laptop's lid could cost 20 GB of 23; and it does not retry after a connection reset. The price is a
single plain HTTP stream per file, which the hub offers for all files, instead of its parallel Xet transfer.

HF_ENDPOINT may be a mirror: a proxy of the hub, or a company's cache, that drops the hub's own headers, redirects as it
likes, refuses HEAD, and may not know a file's size. Whatever it leaves out is None here, and `download` checks the file
by other means. The token goes to the endpoint and to no other host.
"""

import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from huggingface_hub import constants, get_session, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

from ovi_studio.checkpoints.disk import RESUMES, format_bytes
from ovi_studio.checkpoints.partial_file import PartialFile
from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import HubFile

FAILURES = HTTPError, OfflineModeIsEnabled
"""What requests raise."""
_TRANSIENT = {408, 416, 429, 500, 502, 503, 504}
_NO_HEAD = {403, 405, 501}
"""Statuses that may only mean that HEAD is refused, as signed addresses of a CDN do."""
_MAX_REDIRECTS = 10
_SHA256 = re.compile(r"[0-9a-f]{64}")
"""The hub's ETag of a large file is its SHA-256; that of a small one is git's own hash; a mirror's may be anything."""
_PLAUSIBLE = 0.2
"""How far a mirror's file may be from the size that is known, as a fraction of it; known sizes are rounded."""


@dataclass(frozen=True)
class HubAnswer:
    """What the hub says about a file."""

    url: str
    """URL of a fixed commit, so that a resumed file cannot mix two versions, if the hub names one."""
    size: int | None
    """Bytes."""
    sha256: str | None
    """As announced, or of the published file if a mirror announces none."""
    content: str
    """Differs if the content does, as far as the hub tells."""


@dataclass(frozen=True)
class HubListing:
    """The files of a repository, as the hub lists them."""

    files: Mapping[str, int]
    """Path -> bytes; 0 if the hub does not tell."""
    licence: str


def list_files(repository: str) -> HubListing:
    """Request which files a repository has, and its licence; raises `JobError`."""
    found = _json(f"{_endpoint()}/api/models/{repository}?blobs=true", repository, "its list of files")
    try:
        files = {str(entry["rfilename"]): int(entry.get("size") or 0) for entry in found["siblings"]}
        card = found.get("cardData") or {}
        licence = str(card.get("license_name") or card.get("license") or "licence not stated")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _no_hub(repository) from error
    return HubListing(files, licence + ("; gated" if found.get("gated") else ""))


def read_json(repository: str, path: str) -> Any:
    """Request a small JSON file; raises `JobError`."""
    return _json(hf_hub_url(repository, path, endpoint=_endpoint()), repository, path)


def _json(url: str, repository: str, path: str) -> Any:
    try:
        response = get_session().get(
            url, headers=_request_headers({}), timeout=constants.HF_HUB_ETAG_TIMEOUT, follow_redirects=True
        )
        hf_raise_for_status(response)
        return response.json()
    except FAILURES as error:
        raise explain(error, HubFile(repository, path, "", 0, "")) from error
    except ValueError as error:
        raise _no_hub(repository) from error


def _no_hub(repository: str) -> JobError:
    return JobError(
        f"{_endpoint()} does not answer like a hub about {repository}; check HF_ENDPOINT, and whether the network "
        "requires a login or a proxy, then repeat the command."
    )


def ask(source: HubFile) -> HubAnswer:
    """Request what the hub has under this name; raises `JobError`."""
    endpoint = _endpoint()
    name = f"{source.repository}/{source.path}"
    url = hf_hub_url(source.repository, source.path, endpoint=endpoint)
    try:
        headers = _headers(url)
    except FAILURES as error:
        raise explain(error, source) from error
    if headers.get("content-type", "").startswith("text/html"):
        raise JobError(
            f"{endpoint} does not answer like a hub for {name}, but with a web page; "
            "check HF_ENDPOINT, and whether the network requires a login or a proxy, then repeat the command."
        )
    commit, size = headers.get("x-repo-commit"), _size(headers)
    linked, etag = (_etag(headers.get(header)) for header in ("x-linked-etag", "etag"))
    if commit is None and source.size and size is not None and abs(size - source.size) > _PLAUSIBLE * source.size:
        raise JobError(
            f"{endpoint} has a file of {format_bytes(size)} for {name}, which is about {format_bytes(source.size)}; "
            "check whether HF_ENDPOINT is a complete mirror of the hub, then repeat the command."
        )
    # The ETag of what a mirror redirects to may be Xet's hash of the file, which looks like a SHA-256.
    known = source.sha256 if commit is None else None
    digests = (linked, known, None if etag == headers.get("x-xet-hash") else etag)
    return HubAnswer(
        url=hf_hub_url(source.repository, source.path, revision=commit, endpoint=endpoint),
        size=size,
        sha256=next((digest for digest in digests if digest and _SHA256.fullmatch(digest)), None),
        content=linked or etag or f"{headers.get('last-modified')} {size}",
    )


def append(url: str, part: PartialFile, limit: int | None) -> None:
    """Request the rest of a file; returns when the answer has ended, or holds more than `limit` bytes.

    Raises one of `FAILURES`, possibly after some of it arrived.
    """
    # The file's own URL is requested every time, since the URL that it redirects to is signed and expires within an
    # hour.
    extra = {"Range": f"bytes={part.size}-"} if part.size else {}
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream("GET", url, headers=_request_headers(extra), timeout=timeout) as response:
        if response.status_code == 416:
            part.restart()
        hf_raise_for_status(response)
        resumed = response.headers.get("Content-Range", "").startswith(f"bytes {part.size}-")
        if part.size and not resumed:
            part.restart()
            if response.status_code == 206:  # another range than the one that was requested
                return
        for chunk in response.iter_bytes():
            part.write(chunk)
            if limit is not None and part.size > limit:
                return


def is_transient(error: Exception) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, OfflineModeIsEnabled):
        return False
    return not isinstance(error, HfHubHTTPError) or error.response.status_code in _TRANSIENT


def requested_wait(error: Exception | None) -> float:
    """Seconds that the hub asks to wait (Retry-After, a number or a date); 0 if it does not."""
    text = error.response.headers.get("Retry-After", "") if isinstance(error, HfHubHTTPError) else ""
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def explain(error: Exception | None, source: HubFile) -> JobError:
    """Convert an error to a sentence with advice."""
    name, endpoint = f"{source.repository}/{source.path}", _endpoint()
    if isinstance(error, OfflineModeIsEnabled):
        return JobError(f"{name} must be downloaded, but HF_HUB_OFFLINE is set; unset it, {RESUMES}.")
    if not isinstance(error, HfHubHTTPError):
        reason = str(error).splitlines()[0] if str(error or "") else "the connection ended early"
        return JobError(
            f"{name} cannot be downloaded from {endpoint} ({reason}); check the network, the proxy and HF_ENDPOINT, "
            f"{RESUMES}."
        )
    status = error.response.status_code
    if status in {401, 403}:
        return JobError(
            f"{endpoint} denies access to {name} ({status}): the repository is private, gated or deleted, or the token "
            f"is wrong; accept its terms at {endpoint}/{source.repository} and set HF_TOKEN, {RESUMES}."
        )
    if status in {404, 410}:
        return JobError(
            f"{endpoint} has no file {name} ({status}); check HF_ENDPOINT, or whether the file was moved in "
            f"{endpoint}/{source.repository}, and download it manually."
        )
    if status in _TRANSIENT or status >= 500:
        wait = requested_wait(error)
        until = f"wait {_duration(wait)}" if wait else "wait a few minutes"
        return JobError(f"{endpoint} is down or overloaded ({status} for {name}); {until}, {RESUMES}.")
    return JobError(
        f"{endpoint} refuses the request for {name} ({status}); check HF_ENDPOINT and the proxy, {RESUMES}."
    )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def _endpoint() -> str:
    """The hub's address; raises `JobError` if HF_ENDPOINT is none."""
    # huggingface_hub reads the variable only once, on import, but the page can set it later.
    address = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).strip().rstrip("/")
    try:
        parts = urlsplit(address)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:  # a port that is no number
        valid = False
    if not valid:
        raise JobError(f"HF_ENDPOINT is {address!r}; write an address such as https://huggingface.co.")
    return address


def _request_headers(extra: Mapping[str, str]) -> dict[str, str]:
    # Compressed data could not be counted or resumed.
    return {**build_hf_headers(), "Accept-Encoding": "identity", **extra}


def _headers(url: str) -> dict[str, str]:
    """The headers that describe a file, from all redirects on the way; raises like `append`."""
    session = get_session()
    timeout = constants.HF_HUB_ETAG_TIMEOUT
    request: Any = session.build_request("HEAD", url, headers=_request_headers({}), timeout=timeout)
    hops: list[Any] = []
    while request is not None and len(hops) <= _MAX_REDIRECTS:
        response = session.send(request, follow_redirects=False)
        if response.status_code in _NO_HEAD:
            break
        hf_raise_for_status(response)
        hops.append(response)
        headers = _merged(hops)
        # The hub describes the file before it redirects; what it redirects to may refuse HEAD.
        request = None if "x-linked-size" in headers else response.next_request
        if request is None and _size(headers) is not None:
            return headers
    extra = {"Range": "bytes=0-0"}
    with session.stream("GET", url, headers=_request_headers(extra), timeout=timeout) as response:
        hf_raise_for_status(response)
        return _merged([*response.history, response])


def _merged(hops: Iterable[Any]) -> dict[str, str]:
    """The last answer's headers, and the hub's own from any before it; the body of a redirect does not count."""
    headers: dict[str, str] = {}
    for hop in hops:
        own = {name: value for name, value in headers.items() if name.startswith("x-")}
        headers = {**{name.lower(): value for name, value in hop.headers.items()}, **own}
        if hop.has_redirect_location:
            headers = {name: value for name, value in headers.items() if not name.startswith("content-")}
    return headers


def _size(headers: Mapping[str, str]) -> int | None:
    total = headers.get("content-range", "").rpartition("/")[2]
    if headers.get("content-encoding", "identity") == "identity" and not total:
        total = headers.get("content-length", "")
    size = headers.get("x-linked-size") or total
    # Some servers answer HEAD with a length of 0, which no model file has.
    return (int(size) or None) if size.isdecimal() else None


def _etag(text: str | None) -> str | None:
    return text.strip().removeprefix("W/").strip('"') or None if text else None
