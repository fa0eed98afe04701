"""HTML of the header: the line about the engine and the queue, and the notices below it. Text from users is escaped."""

import json
from collections.abc import Mapping, Sequence
from html import escape

from ovi_studio.engine.supervisor import Condition, Supervision
from ovi_studio.queue.model import EngineInfo, EngineState, Job, JobBatch, JobState, Notice
from ovi_studio.queue.schedule import QueueEstimate
from ovi_studio.web.header import texts
from ovi_studio.web.job_views import makers, progress_words, step_of
from ovi_studio.web.views import format_seconds, shorten


def engine_html(
    supervision: Supervision,
    engines: Sequence[EngineInfo],
    first: Sequence[Job],
    counts: Mapping[JobState, int],
    left: QueueEstimate,
    paused: bool,
) -> str:
    """Render the line about the engine and the queue; its data is for the page's title, icon and tabs (`away.js`).

    Args:
        first: the first running job, if there is one.
        counts: the number of jobs in each state.
    """
    kind, words = _engine_words(supervision, engines, first)
    step, fraction = _progress(first)
    waiting = counts[JobState.QUEUED]
    paused_chip = f'<span class="chip warn">{texts.PAUSED}</span>' if paused else ""
    return (
        f'<div class="engine {kind}" data-jobs="{waiting + counts[JobState.RUNNING]}" data-step="{step}" '
        f'data-fraction="{fraction:.2f}"><p role="status"><i class="dot"></i><span>{escape(words)}</span>{paused_chip}'
        f'<span class="sum">{escape(_queue_words(waiting, left))}</span></p></div>'
    )


def lost_html() -> str:
    """Render what is shown while the server does not answer, or the login has ended; the script chooses."""
    return (
        f'<p class="lost" role="alert" data-trouble="" data-title="{texts.LOST_TITLE}" hidden><i class="dot"></i>'
        f'<span data-of="lost" hidden>{texts.LOST}</span>'
        f'<span data-of="login" hidden>{texts.LOGGED_OUT} <a href="">{texts.LOG_IN}</a></span></p>'
    )


def trouble_html(supervision: Supervision) -> str:
    """Render why the engine is not running; empty if it is."""
    if not supervision.reason or supervision.condition not in (Condition.WAITING, Condition.DOWN):
        return ""
    lines = escape("\n".join(supervision.last_words))
    log = f"<details><summary>{texts.LOG}</summary><pre>{lines}</pre></details>" if lines else ""
    return f'<div class="trouble" role="alert"><p>{escape(supervision.reason)}</p>{log}</div>'


def _engine_words(supervision: Supervision, engines: Sequence[EngineInfo], running: Sequence[Job]) -> tuple[str, str]:
    match supervision.condition:
        case Condition.DOWN:
            return "down", texts.DOWN
        case Condition.WAITING:
            return "warn", texts.RESTARTS
        case Condition.STOPPED:
            return "down", texts.STOPPED
    if supervision.condition is Condition.STARTING or not engines or not all(engine.ready for engine in engines):
        return "warn", texts.STARTS
    if any(engine.stopping for engine in engines):
        return "warn", texts.RESTARTS_SOON
    working = sum(engine.state is EngineState.WORKING for engine in engines)
    if working and (count := len(makers(engines))) > 1:
        return "good", texts.working(working, count)
    if working:
        return "good", progress_words(running[0])[0] if running else texts.WORKING
    return "good", texts.ready(engines[0].variant)


def _progress(running: Sequence[Job]) -> tuple[str, float]:
    """Return the step that the first running clip is at, as in `14/50`, and how much of it is done."""
    if not running or (progress := running[0].progress) is None or not progress.step:
        return "", 0.0
    return step_of(running[0]), progress.step / max(1, progress.total)


def _queue_words(waiting: int, left: QueueEstimate) -> str:
    return texts.left(waiting, format_seconds(left.seconds) if left.seconds else "", left.unmeasured)


def notices_html(notices: Sequence[Notice]) -> str:
    """Render the notices that have not been dismissed."""
    return "".join(
        f'<div class="news-item" role="alert"><p>{escape(notice.text)}</p>'
        f'<button type="button" data-dismiss="{notice.id}" aria-label="{texts.DISMISS}">×</button></div>'
        for notice in notices[:5]
    )


def batch_news(batches: Sequence[JobBatch]) -> str:
    """Render hidden data about batches, from which the page's script announces finished ones."""
    news = [
        {
            "id": batch.id,
            "name": (name := shorten(batch.name, 80)),
            "ended": batch.ended,
            # A batch that was cancelled as a whole needs no words.
            "told": texts.batch_done(name, done, failed) if done or failed else "",
        }
        for batch in batches
        for done, failed in [(batch.counts[JobState.DONE], batch.counts[JobState.FAILED])]
    ]
    return f'<span id="batch-news" hidden data-batches="{escape(json.dumps(news, ensure_ascii=False))}"></span>'
