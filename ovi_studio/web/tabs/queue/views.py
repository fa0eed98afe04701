"""HTML for the rows of the queue. All text from users is escaped here.

The rows reach the browser as the value of a `gr.HTML` whose template does not contain the value: `queue.js` puts them
into the page and replaces only changed ones, so that a long table stays fast and keeps the focus.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ovi_studio.queue.model import Job, JobBatch, JobState
from ovi_studio.web.job_views import STATE_NAMES, bar, progress_words
from ovi_studio.web.media_routes import job_picture_url
from ovi_studio.web.public_text import for_page
from ovi_studio.web.views import format_seconds

_ICONS = {
    "first": ("Run next", "M5 4h14M12 20V8M6 13l6-6 6 6"),
    "up": ("Move up", "M12 19V6M6 11l6-6 6 6"),
    "down": ("Move down", "M12 5v13M6 13l6 6 6-6"),
    "edit": ("Edit", "M4 20h4L19 9l-4-4L4 16zM13 7l4 4"),
    "duplicate": ("Duplicate", "M9 9h11v11H9zM15 9V4H4v11h5"),
    "retry": ("Retry", "M4 12a8 8 0 1 1 2.5 5.8M4 12V6M4 12h6"),
    "cancel": ("Cancel", "M6 6l12 12M18 6L6 18"),
    "delete": ("Delete", "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13"),
}
_ACTIONS = {
    JobState.QUEUED: ("first", "up", "down", "edit", "duplicate", "cancel", "delete"),
    JobState.RUNNING: ("duplicate", "cancel"),
    JobState.DONE: ("duplicate", "delete"),
    JobState.FAILED: ("retry", "duplicate", "delete"),
    JobState.CANCELLED: ("retry", "duplicate", "delete"),
}
_SHOWN_BATCHES = 8
_SHOWN_PROMPT = 400
"""Maximum number of characters of a prompt in a row, of which two lines are visible."""


def table_value(jobs: Sequence[Job], total: int, offset: int) -> dict[str, Any]:
    """Return the value that `queue.js` renders."""
    rows = [{"id": job.id, "queued": job.state is JobState.QUEUED, "html": row_html(job)} for job in jobs]
    last = offset + len(jobs)
    place = "" if total <= len(jobs) else f"{offset + 1} to {last} of {total}"
    return {"rows": rows, "place": place, "back": offset > 0, "on": last < total, "empty": _EMPTY if not total else ""}


_EMPTY = "Nothing here. Jobs that you queue in the Create tab appear in this list, and stay in it across restarts."


def row_html(job: Job) -> str:
    """Render the content of a row."""
    state, detail, progress = _state(job)
    buttons = "".join(_button(action, job) for action in _ACTIONS[job.state] if not _is_hidden(action, job))
    grip = (
        '<span class="grip" aria-hidden="true">⠿</span>'
        if job.state is JobState.QUEUED
        else '<span class="grip"></span>'
    )
    facts = [job.spec.variant, f"{job.spec.steps} steps", f"seed {job.spec.seed}"]
    turn = {1: "before others", -1: "after others"}.get((job.priority > 0) - (job.priority < 0))
    facts += [turn] if turn and job.state is JobState.QUEUED else []
    facts += [f"attempt {job.attempt}"] if job.attempt > 1 else []
    batch = (
        ""
        if job.batch_name == _collapsed(job.spec.prompt)[:200]
        else f"<span>{escape(_shorten(job.batch_name, 48))}</span>"
    )
    prompt = escape(_collapsed(job.spec.prompt)[:_SHOWN_PROMPT])
    detail = f'<span class="detail">{escape(detail)}</span>'
    return (
        f"{grip}{_picture(job)}"
        f'<div class="about"><p class="prompt"><b>{job.number}</b>{prompt}</p>'
        f'<p class="facts">{batch}<span>{escape(" · ".join(facts))}</span></p></div>'
        f'<div class="how {job.state}"><p><span class="chip">{state}</span>{detail}</p>'
        f'{progress}</div><div class="actions">{buttons}</div>'
    )


def _state(job: Job) -> tuple[str, str, str]:
    if job.state is JobState.RUNNING:
        what, more, fraction = progress_words(job)
        return STATE_NAMES[job.state], " · ".join(filter(None, [what, more])), bar(fraction, f"Clip {job.number}")
    if job.state is JobState.FAILED:
        return STATE_NAMES[job.state], for_page(job.error or ""), ""
    note = for_page(job.note or "")
    if job.state is JobState.DONE and job.seconds is not None:
        return STATE_NAMES[job.state], " · ".join(filter(None, [f"in {format_seconds(job.seconds)}", note])), ""
    return STATE_NAMES[job.state], note, ""


def _picture(job: Job) -> str:
    address = job_picture_url(job)
    image = f'<img src="{escape(address)}" alt="" loading="lazy" decoding="async">' if address else ""
    if job.state is JobState.DONE and job.clip is not None:
        link = f"studio/job/{escape(job.id)}/clip.mp4"
        label = f"Play clip {job.number}"
        return f'<a class="thumb" href="{link}" target="_blank" rel="noopener" aria-label="{label}">{image}</a>'
    return f'<span class="thumb">{image}</span>'


def _is_hidden(action: str, job: Job) -> bool:
    return action == "cancel" and job.cancelling


def _button(action: str, job: Job) -> str:
    name, path = _ICONS[action]
    return (
        f'<button type="button" data-action="{action}" title="{name}" aria-label="{name}: clip {job.number}">'
        f'<svg viewBox="0 0 24 24" aria-hidden="true"><path d="{path}"/></svg></button>'
    )


def summary_html(
    counts: Mapping[JobState, int], batch: JobBatch | None, seconds_left: float | None, batches: Sequence[JobBatch] = ()
) -> str:
    """Render the summary above the table, of all jobs or of the shown batch, and buttons for the unfinished batches."""
    total = sum(counts.values())
    ended = total - counts[JobState.QUEUED] - counts[JobState.RUNNING]
    if not total:
        return ""
    words = [f"{ended} of {total} ended"]
    words += [f"{counts[JobState.FAILED]} failed"] if counts[JobState.FAILED] else []
    words += [f"{counts[JobState.CANCELLED]} cancelled"] if counts[JobState.CANCELLED] else []
    words += [f"about {format_seconds(seconds_left)} left"] if seconds_left else []
    name = escape(_shorten(batch.name, 80)) if batch else "All jobs"
    return (
        f'<div class="summary"><p><strong>{name}</strong><span>{escape(" · ".join(words))}</span></p>'
        f"{bar(ended / total, 'All of these')}{'' if batch else _batches(batches)}</div>"
    )


def _batches(batches: Sequence[JobBatch]) -> str:
    """Render unfinished batches of several clips as buttons with their progress; a click shows one batch."""
    several = [batch for batch in batches if batch.total > 1 and not batch.ended][:_SHOWN_BATCHES]
    buttons = "".join(map(_batch_button, several))
    return f'<div class="batches" role="group" aria-label="Batches">{buttons}</div>' if buttons else ""


def _batch_button(batch: JobBatch) -> str:
    name, ended = _shorten(batch.name, 40), _ended(batch)
    return (
        f'<button type="button" data-batch="{batch.id}"><span>{escape(name)}</span><b>{ended}/{batch.total}</b>'
        f"{bar(ended / batch.total, f'Batch {name}')}</button>"
    )


def _ended(batch: JobBatch) -> int:
    return batch.total - batch.counts[JobState.QUEUED] - batch.counts[JobState.RUNNING]


def batch_label(batch: JobBatch) -> str:
    """Label a batch for the dropdown."""
    return f"{_shorten(batch.name, 48)} ({_ended(batch)}/{batch.total})"


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _collapsed(text: str) -> str:
    return " ".join(text.split())
