"""Checking the takes of films, in a process of its own: `python -m ovi_studio film check`.

The process (started by `engine.take_checks`) ends when all takes are checked. A check
that is killed is made again, since only its result is stored; what follows from that is in `queue.takes`. It runs on
the CPU, at a low priority: the next clip must not wait for it.
"""

import json
import logging
import os
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from ovi_studio.core.errors import JobError
from ovi_studio.core.prompt_check import parse_prompt
from ovi_studio.media.clip_files import read_record
from ovi_studio.media.content_credentials import is_signed
from ovi_studio.media.score_box import write_scores
from ovi_studio.media.small_files import folder_errors
from ovi_studio.queue.films import FilmStore
from ovi_studio.queue.locks import Lock
from ovi_studio.queue.store import Store
from ovi_studio.queue.takes import ERROR, TakeScores, UncheckedTake
from ovi_studio.takes.check import check_take
from ovi_studio.takes.listener import Listener
from ovi_studio.takes.listeners import best_listener, find_listener

_NICENESS = 10
GONE = "Its clip is gone; queue the film again to make another one."

log = logging.getLogger(__name__)


def check_takes(store: Store, checkpoints: Path) -> int:
    """Check all takes that are not checked yet, unless another process does; returns how many were.

    A take that cannot be checked is noted with the reason.
    """
    with folder_errors(store.paths.state):
        lock = Lock.try_acquire(store.paths.checks_lock)
    if lock is None:
        return 0
    listeners = cache(lambda name: find_listener(name, checkpoints))
    scores, films, count = TakeScores(store), FilmStore(store), 0
    with lock:
        while (take := scores.unchecked()) is not None:
            try:
                name = json.loads(films.get(take.film).text).get("listener") or best_listener(checkpoints)
                found = _check(take, partial(listeners, name) if name else None)
            except JobError as error:
                found = {ERROR: str(error)}
            scores.record(take.job, found)
            count += 1
    return count


def lower_priority() -> None:
    """Let the processes of the engine go first, where the system can do that."""
    if hasattr(os, "nice"):
        os.nice(_NICENESS)


def _check(take: UncheckedTake, listener: Callable[[], Listener] | None) -> dict[str, object]:
    """Measure a take, and note the scores in its file. A listener is loaded only if somebody speaks."""
    if take.clip is None or not take.clip.is_file():
        raise JobError(GONE)
    speech = parse_prompt(str(read_record(take.clip)["spec"].get("prompt", ""))).speech
    before = take.continues if take.continues is not None and take.continues.is_file() else None
    found = check_take(take.clip, speech, listener() if listener and speech else None, before).to_dict()
    try:
        # Signing is the last change of a file.
        if not is_signed(take.clip):
            write_scores(take.clip, found)
    except (JobError, OSError) as error:
        log.warning("The scores of %s are only in the queue: %s", take.clip.name, error)
    return found
