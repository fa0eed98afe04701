"""The first frames of jobs and films, in the state folder: copied when added, removed when nothing refers to them.

A lock holds between the two: a picture that was copied a moment ago is not removed before a row refers to it.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.media.small_files import folder_errors
from ovi_studio.queue.database import Database
from ovi_studio.queue.files import keep_picture
from ovi_studio.queue.locks import Lock
from ovi_studio.queue.paths import StudioPaths

_LOCK = "pictures.lock"
_nesting = threading.local()


@contextmanager
def adding_pictures(paths: StudioPaths) -> Iterator[None]:
    """Nothing is removed during this block, which may contain others of the same studio.

    Raises `JobError` if another program keeps the lock.
    """
    if getattr(_nesting, "state", None) == paths.state:
        yield
        return
    with folder_errors(paths.state):
        lock = Lock.acquire(paths.state / _LOCK, 60)
    if lock is None:
        raise JobError(f"Another program has locked {paths.pictures}; try again.")
    with lock:
        _nesting.state = paths.state
        try:
            yield
        finally:
            _nesting.state = None


@contextmanager
def kept_pictures(paths: StudioPaths, specs: Sequence[ClipSpec]) -> Iterator[list[ClipSpec]]:
    """The specs with copies of their first frames, which are not removed before the rows refer to them."""
    if all(spec.image is None for spec in specs):
        yield list(specs)
        return
    with adding_pictures(paths):
        images = {spec.image for spec in specs if spec.image is not None}
        kept = {path: keep_picture(path, paths.pictures) for path in images}
        yield [spec if spec.image is None else replace(spec, image=kept[spec.image]) for spec in specs]


_USED = """
SELECT json_extract(spec, '$.image') FROM jobs UNION SELECT picture FROM deleted_jobs
UNION SELECT json_extract(shot.value, '$.begin.picture') FROM films, json_each(films.film, '$.shots') AS shot
WHERE shot.type = 'object'
"""
"""Names, and of films whole paths."""


def remove_unused_pictures(database: Database) -> None:
    """Remove the first frames to which no job and no film refers any more."""
    paths = database.paths
    with folder_errors(paths.pictures):
        lock = Lock.try_acquire(paths.state / _LOCK)
        if lock is None:
            return  # pictures are being added; they are removed the next time
        with lock:
            with database.read() as connection:
                used = {Path(row[0]).name for row in connection.execute(_USED) if row[0] is not None}
            for path in paths.pictures.iterdir():
                if path.name not in used:
                    path.unlink(missing_ok=True)
