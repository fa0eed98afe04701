"""Bring what a variant lacks from the hub, in the layout of the official code. Imports no torch.

`plan` finds the missing and damaged files and asks the hub for their exact sizes; `fetch` brings those files and no
others. A file grows as `<name>.<content>.part` beside its place and gets its name when it is whole and its SHA-256 is
the hub's, so a name never stands for half a file, and an interrupted download goes on where it ended.

Endpoint, token, session and errors are huggingface_hub's, with its HF_ENDPOINT, HF_TOKEN and HF_HUB_DOWNLOAD_TIMEOUT.
Its `hf_hub_download` cannot be used: it writes to a new temporary file at every start and removes it on failure
(1.33 and 2.4), so that a closed lid would cost 20 GB of 23; and it does not repeat a request after a reset connection.
The price is one plain HTTP stream a file, which the hub offers for everything, in place of its parallel Xet transfer.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import Timeout
from huggingface_hub import constants, get_hf_file_metadata, get_session, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import WeakFileLock, build_hf_headers, hf_raise_for_status

from ovi_studio.checkpoints.hashes import remember
from ovi_studio.checkpoints.layout import Inventory, damage, take_inventory
from ovi_studio.checkpoints.meter import DownloadProgress, Meter
from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import HubFile, Variant

MARGIN = 1_000_000_000
"""Bytes that a download leaves free on the disk."""
RETRY_WAITS = (1.0, 2.0, 5.0, 10.0, 20.0)
"""Seconds before each further attempt; they start anew whenever bytes have arrived."""
_TRANSIENT = {408, 429, 500, 502, 503, 504}
_SHA256_LENGTH = 64
"""The hub's ETag of a large file is its SHA-256 in hex; that of a small one is git's own hash."""
_RESUMES = "then repeat the command: it resumes"


@dataclass(frozen=True)
class MissingFile:
    """A file of a variant that is not on this machine, or not whole."""

    source: HubFile
    target: Path
    reason: str
    """The end of a sentence: "is not there", "was cut off"."""


@dataclass(frozen=True)
class PlannedFile:
    """A missing file as the hub describes it."""

    source: HubFile
    target: Path
    reason: str
    url: str
    """Of one commit, so that a resumed file cannot be put together from two."""
    size: int
    etag: str
    part: Path
    """Where the file grows; the name stands for its content."""
    already: int
    """Bytes here from an interrupted download."""


@dataclass(frozen=True)
class DownloadPlan:
    """What `fetch` will do; sizes in bytes."""

    variant: Variant | None
    """None: files that belong to no variant."""
    directory: Path
    files: tuple[PlannedFile, ...]
    free: int
    """On the disk of the checkpoint directory."""

    @property
    def total(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def already(self) -> int:
        return sum(file.already for file in self.files)


def missing_files(inventory: Inventory) -> tuple[MissingFile, ...]:
    """The files that would make the inventory complete; empty for a bundle, whose files are on no hub."""
    variant = inventory.variant
    if variant.root is not None:
        return ()
    sources = [source for problem in inventory.problems for source in variant.files[problem.part]]
    targets = [inventory.directory / source.location for source in sources]
    return tuple(
        MissingFile(source, target, reason)
        for source, target in zip(sources, targets, strict=True)
        if (reason := damage(target))
    )


def plan(variant: Variant, checkpoint_directory: Path) -> DownloadPlan:
    """Find out what is missing and how large it is; downloads nothing.

    Raises `JobError` if the hub does not answer, refuses or lacks a file, or if a bundle is not whole.
    """
    inventory = take_inventory(variant, checkpoint_directory)
    if variant.root is not None:
        _insist(inventory)
    return plan_files(missing_files(inventory), checkpoint_directory, variant)


def plan_files(missing: Sequence[MissingFile], directory: Path, variant: Variant | None = None) -> DownloadPlan:
    """Ask the hub for the sizes of files that belong below a directory; raises `JobError` as `plan` does."""
    return DownloadPlan(variant, directory, tuple(map(_ask, missing)), free_space(directory))


def fetch(plan: DownloadPlan, report: Callable[[DownloadProgress], None]) -> Inventory:
    """Download a variant's files and return the inventory, which then is complete; raises `JobError`."""
    if plan.variant is None:
        raise ValueError("the plan is for no variant")
    fetch_files(plan, report)
    inventory = take_inventory(plan.variant, plan.directory)
    _insist(inventory)
    return inventory


def fetch_files(plan: DownloadPlan, report: Callable[[DownloadProgress], None]) -> None:
    """Download the plan's files.

    `report` is called some times a second in this thread. An exception that it raises ends the download and passes
    through; what has arrived by then stays for the next time.

    Raises `JobError` if the disk is too small (before any byte), if the network or the hub fails beyond patience, if
    a file cannot be written or is not what the hub announced, or if another download into the directory is running.
    """
    if plan.files:
        _refuse_full_disks(plan)
        with _alone_in(plan.directory):
            _fetch_all(plan, report)


def format_plan(plan: DownloadPlan) -> str:
    """For a terminal: a line a file with its size, repository and licence, then the sum."""
    if plan.variant is None:
        return "\n".join(_lines(plan)) if plan.files else f"Nothing is missing in {plan.directory}."
    name = plan.variant.name
    if plan.variant.root is not None:
        return f"Variant {name} is complete in {plan.variant.root}; it is never downloaded."
    if not plan.files:
        return f"Variant {name} is complete in {plan.directory}; nothing is downloaded."
    return "\n".join(_lines(plan))


def _lines(plan: DownloadPlan) -> Iterator[str]:
    for file in plan.files:
        name = file.target.relative_to(plan.directory).as_posix()
        yield f"{format_bytes(file.size):>9}  {name}  ({file.source.repository}, {file.source.licence})"
    resumed = f", of which {format_bytes(plan.already)} are here already" if plan.already else ""
    yield f"{format_bytes(plan.total):>9}  in all{resumed}; {format_bytes(plan.free)} free in {plan.directory}"


def format_progress(progress: DownloadProgress) -> str:
    """For a terminal: one line without its end."""
    share = 100 * progress.done // progress.total if progress.total else 100
    amount = f"{format_bytes(progress.done)} of {format_bytes(progress.total)}"
    return f"{share:3d}%  {amount}  {format_bytes(int(progress.speed))}/s  {progress.file}"


def format_bytes(count: int) -> str:
    """In decimal units, as hubs and disks are labelled: `23.3 GB`."""
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def free_space(folder: Path) -> int:
    """Bytes free on the disk where `folder` is or would be made."""
    return shutil.disk_usage(_existing(folder)).free


def _ask(missing: MissingFile) -> PlannedFile:
    source, endpoint = missing.source, _endpoint()
    url = hf_hub_url(source.repository, source.path, endpoint=endpoint)
    try:
        answer = get_hf_file_metadata(url, endpoint=endpoint)
    except (HTTPError, OfflineModeIsEnabled) as error:
        raise _explain(error, source) from error
    if answer.size is None or answer.etag is None or answer.commit_hash is None:
        raise JobError(
            f"{endpoint} answers for {source.repository}/{source.path}, but not as a hub does; "
            "check HF_ENDPOINT, and whether the network wants a login or a proxy, then repeat the command."
        )
    fixed = hf_hub_url(source.repository, source.path, revision=answer.commit_hash, endpoint=endpoint)
    content = hashlib.sha256(answer.etag.encode()).hexdigest()[:12]
    part = missing.target.with_name(f"{missing.target.name}.{content}.part")
    already = min(_size(part), answer.size)
    return PlannedFile(source, missing.target, missing.reason, fixed, answer.size, answer.etag, part, already)


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _endpoint() -> str:
    # huggingface_hub reads the variable once, when it is imported; a page may set it later.
    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def _insist(inventory: Inventory) -> None:
    if inventory.complete:
        return
    variant = inventory.variant
    findings = "; ".join(f"{problem.part} {problem.path} {problem.reason}" for problem in inventory.problems)
    remedy = (
        f"write the bundle in {variant.root} again"
        if variant.root
        else f"remove what is named here and run `{inventory.download_command}` again"
    )
    raise JobError(f"Variant {variant.name} is not complete: {findings}; {remedy}.")


def _existing(folder: Path) -> Path:
    folder = folder.resolve()
    return next(place for place in (folder, *folder.parents) if place.is_dir())


def _refuse_full_disks(plan: DownloadPlan) -> None:
    """By disk: a folder of the checkpoint directory is often a link to a larger one."""
    needed: dict[int, int] = {}
    places: dict[int, Path] = {}
    for file in plan.files:
        place = _existing(file.target.parent)
        disk = place.stat().st_dev
        places.setdefault(disk, place)
        needed[disk] = needed.get(disk, 0) + file.size - _size(file.part)
    for disk, place in places.items():
        free = free_space(place)
        if free < needed[disk] + MARGIN:
            raise JobError(
                f"The download needs {format_bytes(needed[disk])} and {format_bytes(MARGIN)} to spare, but the disk of "
                f"{place} has {format_bytes(free)} free; free {format_bytes(needed[disk] + MARGIN - free)} there "
                f"or choose another directory with --ckpt-dir, {_RESUMES}."
            )


@contextmanager
def _writing(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise JobError(
            f"{place} cannot be written ({error.strerror or error}); free the place or choose another directory with "
            f"--ckpt-dir, {_RESUMES}."
        ) from error


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Two downloads would append to the same files."""
    with ExitStack() as stack:
        with _writing(directory):
            directory.mkdir(parents=True, exist_ok=True)
            try:
                # A timeout of 0 would not even try once.
                stack.enter_context(WeakFileLock(directory / ".download.lock", timeout=0.5))
            except Timeout as error:
                raise JobError(
                    f"Another download into {directory} is running; wait until it ends, {_RESUMES}."
                ) from error
        yield


def _fetch_all(plan: DownloadPlan, report: Callable[[DownloadProgress], None]) -> None:
    meter = Meter(report, plan.total, sum(_size(file.part) for file in plan.files))
    for file in plan.files:
        meter.begin(_shown_name(file), _size(file.part))
        if damage(file.target):  # else somebody brought it since the plan was made
            _fetch_file(file, meter)
        meter.end(file.size)


def _shown_name(file: PlannedFile) -> str:
    # What belongs to no variant has no folder of the official layout.
    return file.source.location if file.source.folder else file.target.name


def _fetch_file(file: PlannedFile, meter: Meter) -> None:
    with _writing(file.target):
        file.target.parent.mkdir(parents=True, exist_ok=True)
        for other in file.target.parent.glob("*.part"):
            if other.name.startswith(f"{file.target.name}.") and other != file.part:
                other.unlink()  # begun from an older commit
    with closing(_Part(file, meter)) as part:
        _complete(file, part)
        whole = part.size == file.size
        if len(file.etag) == _SHA256_LENGTH:
            whole = whole and part.digest == file.etag
    if not whole:
        file.part.unlink()
        raise JobError(
            f"{file.source.repository}/{file.source.path} arrived damaged (its checksum is not the hub's) and was "
            "removed; repeat the command, and if this happens again, check the memory and the disk of this machine."
        )
    with _writing(file.target):
        file.part.replace(file.target)
    remember(file.target, part.digest)


def _complete(file: PlannedFile, part: "_Part") -> None:
    """Ask for the rest until all of it is here; bounded as long as nothing arrives."""
    waits = iter(RETRY_WAITS)
    while part.size < file.size:
        before, failure = part.size, None
        try:
            _append(file, part)
        except OfflineModeIsEnabled as error:
            raise _explain(error, file.source) from error
        except HTTPError as error:
            if isinstance(error, HfHubHTTPError) and error.response.status_code not in _TRANSIENT:
                raise _explain(error, file.source) from error
            failure = error
        if part.size > before:
            waits = iter(RETRY_WAITS)
        if part.size < file.size:
            wait = next(waits, None)
            if wait is None:
                raise _explain(failure, file.source) from failure
            time.sleep(wait)


def _append(file: PlannedFile, part: "_Part") -> None:
    # Compressed bytes could not be counted, nor resumed. The file's own address is asked every time: the one that it
    # leads to is signed and expires within an hour.
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    if part.size:
        headers["Range"] = f"bytes={part.size}-"
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream("GET", file.url, headers=headers, timeout=timeout) as response:
        hf_raise_for_status(response)
        resumed = response.headers.get("Content-Range", "").startswith(f"bytes {part.size}-")
        if part.size and not (response.status_code == 206 and resumed):
            part.restart()
        for chunk in response.iter_bytes():
            part.write(chunk)


def _explain(error: Exception | None, source: HubFile) -> JobError:
    """One sentence that says what to do."""
    name, endpoint = f"{source.repository}/{source.path}", _endpoint()
    if isinstance(error, OfflineModeIsEnabled):
        return JobError(f"{name} has to be downloaded but HF_HUB_OFFLINE is set; unset it, {_RESUMES}.")
    if not isinstance(error, HfHubHTTPError):
        reason = str(error).splitlines()[0] if str(error or "") else "the connection ended early"
        return JobError(
            f"{endpoint} cannot be reached for {name} ({reason}); check the network, the proxy and HF_ENDPOINT, "
            f"{_RESUMES}."
        )
    status = error.response.status_code
    if status in {401, 403}:
        return JobError(
            f"{endpoint} refuses {name} ({status}): the repository is private, gated or gone, or the token is wrong; "
            f"accept its terms at {endpoint}/{source.repository} and set HF_TOKEN, {_RESUMES}."
        )
    if status == 404:
        return JobError(
            f"{endpoint} has no file {name} ({status}); check HF_ENDPOINT, or look at {endpoint}/{source.repository} "
            "whether it has moved and put it in place by hand."
        )
    return JobError(f"{endpoint} is down or overloaded ({status} for {name}); wait some minutes, {_RESUMES}.")


class _Part:
    """The growing file and its SHA-256 so far."""

    def __init__(self, file: PlannedFile, meter: Meter) -> None:
        self._path = file.part
        self._meter = meter
        with _writing(self._path):
            self._file = self._path.open("a+b")
            self._file.seek(0)
            self._digest = hashlib.file_digest(self._file, "sha256")
            self.size = self._file.tell()
        if self.size > file.size:
            self.restart()

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    def write(self, chunk: bytes) -> None:
        with _writing(self._path):
            self._file.write(chunk)
        self._digest.update(chunk)
        self.size += len(chunk)
        self._meter.add(len(chunk))

    def restart(self) -> None:
        with _writing(self._path):
            self._file.truncate(0)
        self._digest = hashlib.sha256()
        self._meter.add(-self.size)
        self.size = 0

    def close(self) -> None:
        """On the disk for certain, for it is about to get its name."""
        with _writing(self._path), self._file:
            self._file.flush()
            os.fsync(self._file.fileno())
