"""What the hub is asked: the size and content of a file, and its bytes. Imports no torch.

Endpoint, token, session and errors are huggingface_hub's, with its HF_ENDPOINT, HF_TOKEN and HF_HUB_DOWNLOAD_TIMEOUT.
Its `hf_hub_download` cannot be used: it starts with a new temporary file every time and removes it on failure (1.33 and
2.4), so closing a laptop's lid could cost 20 GB of 23; and it does not retry after a connection reset. The price is a
single plain HTTP stream per file, which the hub offers for all files, instead of its parallel Xet transfer.
"""

import os
from dataclasses import dataclass

from huggingface_hub import constants, get_hf_file_metadata, get_session, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

from ovi_studio.checkpoints.disk import RESUMES
from ovi_studio.checkpoints.partial_file import PartialFile
from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import HubFile

_TRANSIENT = {408, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class HubAnswer:
    """What the hub says about a file."""

    url: str
    """URL of a fixed commit, so that a resumed file cannot mix two versions."""
    size: int
    """Bytes."""
    etag: str


def ask(source: HubFile) -> HubAnswer:
    """Request what the hub has under this name; raises `JobError`."""
    endpoint = _endpoint()
    url = hf_hub_url(source.repository, source.path, endpoint=endpoint)
    try:
        answer = get_hf_file_metadata(url, endpoint=endpoint)
    except (HTTPError, OfflineModeIsEnabled) as error:
        raise explain(error, source) from error
    if answer.size is None or answer.etag is None or answer.commit_hash is None:
        raise JobError(
            f"{endpoint} does not answer like a hub for {source.repository}/{source.path}; "
            "check HF_ENDPOINT, and whether the network requires a login or a proxy, then repeat the command."
        )
    fixed = hf_hub_url(source.repository, source.path, revision=answer.commit_hash, endpoint=endpoint)
    return HubAnswer(fixed, answer.size, answer.etag)


def append(url: str, part: PartialFile) -> None:
    """Request the rest of a file; raises `HTTPError` or `OfflineModeIsEnabled`, possibly after some of it arrived."""
    # Compressed data could not be counted or resumed. The file's own URL is requested every time, since the URL that it
    # redirects to is signed and expires within an hour.
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    if part.size:
        headers["Range"] = f"bytes={part.size}-"
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream("GET", url, headers=headers, timeout=timeout) as response:
        hf_raise_for_status(response)
        resumed = response.headers.get("Content-Range", "").startswith(f"bytes {part.size}-")
        if part.size and not (response.status_code == 206 and resumed):
            part.restart()
        for chunk in response.iter_bytes():
            part.write(chunk)


def is_transient(error: Exception) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, OfflineModeIsEnabled):
        return False
    return not isinstance(error, HfHubHTTPError) or error.response.status_code in _TRANSIENT


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
    if status == 404:
        return JobError(
            f"{endpoint} has no file {name} ({status}); check HF_ENDPOINT, or whether the file was moved in "
            f"{endpoint}/{source.repository}, and download it manually."
        )
    return JobError(f"{endpoint} is down or overloaded ({status} for {name}); wait a few minutes, {RESUMES}.")


def _endpoint() -> str:
    # huggingface_hub reads the variable only once, on import, but the page can set it later.
    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
