"""Downloads the missing files of a variant from the hub, in the layout of the official code. Imports no torch.

`plan` finds missing and damaged files and requests their exact sizes from the hub; `fetch` downloads only those files.
A file is written as `<name>.<content>.part` next to its target and renamed when it is complete and its SHA-256 is the
one that the hub announces, so a name never refers to a partial file, and an interrupted download resumes where it
stopped. If a mirror announces no hash, the published file's is used if known, and else the file's own header.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ovi_studio.checkpoints.disk import RESUMES, exclusive, existing_ancestor, format_bytes, free_space, writing
from ovi_studio.checkpoints.file_check import damage
from ovi_studio.checkpoints.hashes import remember
from ovi_studio.checkpoints.layout import Inventory, take_inventory
from ovi_studio.checkpoints.meter import DownloadProgress, Meter
from ovi_studio.checkpoints.partial_file import PartialFile
from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import HubFile, Part, Variant

MARGIN = 1_000_000_000
"""Bytes that a download leaves free on the disk."""
RETRY_WAITS = (1.0, 2.0, 5.0, 10.0, 20.0)
"""Seconds before each retry; the sequence restarts whenever bytes have arrived."""
MAX_WAIT = 300.0
"""Seconds; a hub that asks to wait for longer is given up."""


@dataclass(frozen=True)
class MissingFile:
    """A file that is missing on this machine or damaged."""

    source: HubFile
    target: Path
    reason: str
    """The end of a sentence, such as "is missing" or "is truncated"."""


@dataclass(frozen=True)
class PlannedFile:
    """A missing file with the hub's information about it."""

    source: HubFile
    target: Path
    reason: str
    url: str
    size: int
    """Bytes; the rounded, known number if the hub does not tell it."""
    exact: bool
    """Whether the hub tells the size."""
    sha256: str | None
    """As the hub announces it; of the published file for a mirror that does not; None: unknown."""
    part: Path
    """The partial file, whose name identifies the content."""
    already: int
    """Bytes present from an interrupted download."""


@dataclass(frozen=True)
class DownloadPlan:
    """What `fetch` will download; sizes are in bytes."""

    variant: Variant | None
    """None for files that do not belong to a variant."""
    directory: Path
    files: tuple[PlannedFile, ...]
    free: int
    """Free space on the disk of the checkpoint directory."""

    @property
    def total(self) -> int:
        """Size of all files."""
        return sum(file.size for file in self.files)

    @property
    def already(self) -> int:
        """Bytes present from interrupted downloads."""
        return sum(file.already for file in self.files)


def missing_files(inventory: Inventory) -> tuple[MissingFile, ...]:
    """The files that the inventory lacks; empty for a bundle, whose files are not on a hub."""
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


def plan(variant: Variant, checkpoint_directory: Path, without: Collection[Part] = ()) -> DownloadPlan:
    """Determine which files are missing and how large they are, without downloading anything.

    The parts in `without` count as present.

    Raises `JobError` if the hub does not answer, denies access or lacks a file, or if a bundle is incomplete.
    """
    inventory = take_inventory(variant, checkpoint_directory)
    if variant.root is not None:
        _require_complete(inventory)
    others = {source for part in without for source in variant.files[part]}
    missing = [file for file in missing_files(inventory) if file.source not in others]
    return plan_files(missing, checkpoint_directory, variant)


def plan_files(missing: Sequence[MissingFile], directory: Path, variant: Variant | None = None) -> DownloadPlan:
    """Request the sizes of files for a directory from the hub; raises `JobError` like `plan`."""
    return DownloadPlan(variant, directory, tuple(map(_request_metadata, missing)), free_space(directory))


def fetch(plan: DownloadPlan, report: Callable[[DownloadProgress], None]) -> Inventory:
    """Download a variant's files and return the complete inventory; raises `JobError`."""
    if plan.variant is None:
        raise ValueError("the plan is not for a variant")
    fetch_files(plan, report)
    inventory = take_inventory(plan.variant, plan.directory)
    _require_complete(inventory)
    return inventory


def fetch_files(plan: DownloadPlan, report: Callable[[DownloadProgress], None]) -> None:
    """Download the plan's files.

    `report` is called a few times per second in this thread. An exception that it raises stops the download and is
    passed through; partial files stay for the next attempt.

    Raises `JobError` if there is not enough disk space (before downloading anything), if the network or the hub keeps
    failing, if a file cannot be written or its checksum is wrong, or if another download into the directory is running.
    """
    if plan.files:
        _require_disk_space(plan)
        with exclusive(plan.directory):
            _fetch_all(plan, report)


def format_plan(plan: DownloadPlan) -> str:
    """Text for a terminal: one line per file with size, repository and licence, then the total."""
    if plan.variant is None:
        return "\n".join(_lines(plan)) if plan.files else f"No files are missing in {plan.directory}."
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
    resumed = f", {format_bytes(plan.already)} of it already downloaded" if plan.already else ""
    yield f"{format_bytes(plan.total):>9}  in total{resumed}; {format_bytes(plan.free)} free in {plan.directory}"


def format_progress(progress: DownloadProgress) -> str:
    """Text for a terminal: one line without a line break."""
    percent = 100 * progress.done // progress.total if progress.total else 100
    amount = f"{format_bytes(progress.done)} of {format_bytes(progress.total)}"
    return f"{percent:3d}%  {amount}  {format_bytes(int(progress.speed))}/s  {progress.file}"


def _request_metadata(missing: MissingFile) -> PlannedFile:
    from ovi_studio.checkpoints import hub  # with an HTTP client

    source, answer = missing.source, hub.ask(missing.source)
    content = hashlib.sha256(answer.content.encode()).hexdigest()[:12]
    part = missing.target.with_name(f"{missing.target.name}.{content}.part")
    size = source.size if answer.size is None else answer.size
    return PlannedFile(
        source=source,
        target=missing.target,
        reason=missing.reason,
        url=answer.url,
        size=size,
        exact=answer.size is not None,
        sha256=answer.sha256,
        part=part,
        already=min(_size(part), size),
    )


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _require_complete(inventory: Inventory) -> None:
    if inventory.complete:
        return
    variant = inventory.variant
    findings = "; ".join(f"{problem.part} {problem.path} {problem.reason}" for problem in inventory.problems)
    remedy = (
        f"write the bundle in {variant.root} again"
        if variant.root
        else f"remove these files and run `{inventory.download_command}` again"
    )
    raise JobError(f"Variant {variant.name} is not complete: {findings}; {remedy}.")


def _require_disk_space(plan: DownloadPlan) -> None:
    """Raise `JobError` if a disk is too full. Per disk, since subfolders are often links to a larger disk."""
    needed: dict[int, int] = {}
    places: dict[int, Path] = {}
    for file in plan.files:
        place = existing_ancestor(file.target.parent)
        disk = place.stat().st_dev
        places.setdefault(disk, place)
        needed[disk] = needed.get(disk, 0) + file.size - _size(file.part)
    for disk, place in places.items():
        free = free_space(place)
        if free < needed[disk] + MARGIN:
            raise JobError(
                f"The download needs {format_bytes(needed[disk])} plus a reserve of {format_bytes(MARGIN)}, but the "
                f"disk of {place} has {format_bytes(free)} free; free up "
                f"{format_bytes(needed[disk] + MARGIN - free)} there or choose another directory with --ckpt-dir, "
                f"{RESUMES}."
            )


def _fetch_all(plan: DownloadPlan, report: Callable[[DownloadProgress], None]) -> None:
    meter = Meter(report, plan.total, sum(_size(file.part) for file in plan.files))
    for file in plan.files:
        meter.begin(_shown_name(file), _size(file.part))
        if damage(file.target):  # otherwise the file has appeared since the plan was made
            _fetch_file(file, meter)
        meter.end(file.size)


def _shown_name(file: PlannedFile) -> str:
    # Files that do not belong to a variant have no folder in the official layout.
    return file.source.location if file.source.folder else file.target.name


def _fetch_file(file: PlannedFile, meter: Meter) -> None:
    with writing(file.target):
        file.target.parent.mkdir(parents=True, exist_ok=True)
        for other in file.target.parent.glob("*.part"):
            if other.name.startswith(f"{file.target.name}.") and other != file.part:
                other.unlink()  # from an older commit
    with closing(PartialFile(file.part, meter)) as part:
        if file.exact and part.size > file.size:
            part.restart()
        _complete(file, part)
        digest = part.digest
    # The hash is the last word; without one, what the file says about itself.
    fault = damage(file.part, file.target.name) if file.sha256 is None else None
    if digest != (file.sha256 or digest) or (file.exact and part.size != file.size):
        fault = "has another checksum or size than announced"
    if fault:
        file.part.unlink()
        raise JobError(
            f"{file.source.repository}/{file.source.path} was damaged in transit, or is another file than published "
            f"(it {fault}), and was removed; repeat the command, and if this happens again, check HF_ENDPOINT, and the "
            "memory and the disk of this machine."
        )
    with writing(file.target):
        file.part.replace(file.target)
    remember(file.target, digest)


def _complete(file: PlannedFile, part: PartialFile) -> None:
    """Request the rest until the file is complete; gives up if nothing arrives for too long."""
    from ovi_studio.checkpoints import hub  # with an HTTP client

    waits = iter(RETRY_WAITS)
    complete = file.exact and part.size >= file.size
    furthest = part.size
    while not complete:
        failure = None
        try:
            hub.append(file.url, part, file.size if file.exact else None)
        except hub.FAILURES as error:
            if not hub.is_transient(error):
                raise hub.explain(error, file.source) from error
            failure = error
        complete = part.size >= file.size if file.exact else failure is None and _is_whole(file, part)
        # Bytes that arrive again, since the server starts over every time, are no progress.
        if part.size > furthest:
            furthest, waits = part.size, iter(RETRY_WAITS)
        if not complete:
            wait, requested = next(waits, None), hub.requested_wait(failure)
            if wait is None or requested > MAX_WAIT:
                raise hub.explain(failure, file.source) from failure
            part.meter.wait(max(wait, requested))


def _is_whole(file: PlannedFile, part: PartialFile) -> bool:
    """Whether an answer of unknown length has ended where the file does, as far as the file itself tells."""
    part.flush()
    return damage(file.part, file.target.name) is None or part.digest == file.sha256
