"""HTML for the rows of the queue. All text from users is escaped here.

The rows reach the browser as the value of a `gr.HTML` whose template does not contain the value: `queue.js` puts them
into the page and replaces only changed ones, so that a long table stays fast and keeps the focus.
"""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import takewhile
from typing import Any

from ovi_studio.core.prompt_spelling import in_words
from ovi_studio.queue.adding import MAX_NAME_LENGTH
from ovi_studio.queue.model import EngineInfo, Job, JobBatch, JobState
from ovi_studio.web import texts as common
from ovi_studio.web.job_views import bar, maker_name, progress_words
from ovi_studio.web.media_routes import job_picture_url
from ovi_studio.web.public_text import for_page
from ovi_studio.web.tabs.queue import texts
from ovi_studio.web.tokens import BATCH_COLOURS
from ovi_studio.web.views import format_seconds, shorten

_ICONS = {
    "first": "M5 4h14M12 20V8M6 13l6-6 6 6",
    "up": "M12 19V6M6 11l6-6 6 6",
    "down": "M12 5v13M6 13l6 6 6-6",
    "edit": "M4 20h4L19 9l-4-4L4 16zM13 7l4 4",
    "duplicate": "M9 9h11v11H9zM15 9V4H4v11h5",
    "retry": "M4 12a8 8 0 1 1 2.5 5.8M4 12V6M4 12h6",
    "cancel": "M6 6l12 12M18 6L6 18",
    "delete": "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
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
_SAME_BEGINNING = 12
"""How many characters two prompts must share for one to be a variation of the other."""
_IN_SIGHT = 60
"""A part that begins later may be cut off; the words before it are then left out but for some of `_BEFORE_OWN`."""
_BEFORE_OWN = 30


def table_value(
    jobs: Sequence[Job], total: int, offset: int, *, filtered: bool = False, engines: Sequence[EngineInfo] = ()
) -> dict[str, Any]:
    """Return the value that `queue.js` renders."""
    rows = [{"id": job.id, "queued": job.state is JobState.QUEUED, "html": row_html(job, engines)} for job in jobs]
    last = offset + len(jobs)
    place = "" if total <= len(jobs) else texts.place(offset + 1, last, total)
    empty = "" if total else texts.NOT_FOUND if filtered else texts.EMPTY
    return {"rows": rows, "place": place, "back": offset > 0, "on": last < total, "empty": empty}


def row_html(job: Job, engines: Sequence[EngineInfo] = ()) -> str:
    """Render the content of a row; with several engines or machines it says which one makes the job, or made it."""
    state, detail, progress = _state(job)
    buttons = "".join(_button(action, job) for action in _ACTIONS[job.state] if not _is_hidden(action, job))
    grip = (
        '<span class="grip" aria-hidden="true">⠿</span>'
        if job.state is JobState.QUEUED
        else '<span class="grip"></span>'
    )
    detail = f'<span class="detail">{escape(detail)}</span>'
    return (
        f"{grip}{_picture(job)}"
        f'<div class="about"><p class="prompt"><b>{job.number}</b>{_prompt(job)}</p>'
        f'<p class="facts">{_batch_name(job)}<span>{escape(" · ".join(_facts(job, engines)))}</span></p></div>'
        f'<div class="how {job.state}"><p><span class="chip">{state}</span>{detail}</p>'
        f'{progress}</div><div class="actions">{buttons}</div>'
    )


def _facts(job: Job, engines: Sequence[EngineInfo]) -> list[str]:
    if job.improves is None:
        facts = texts.facts(job.spec.variant, job.spec.steps, job.spec.seed)
    else:
        facts = [texts.IMPROVES, job.improves.improvement.words]
    turn = {1: texts.BEFORE_OTHERS, -1: texts.AFTER_OTHERS}.get((job.priority > 0) - (job.priority < 0))
    facts += [turn] if turn and job.state is JobState.QUEUED else []
    facts += [texts.attempt(job.attempt)] if job.attempt > 1 else []
    name = maker_name(job.made_by, engines) if job.made_by else ""
    return facts + ([name] if name else [])


def _prompt(job: Job) -> str:
    """Render the prompt; if a pattern made it, the part that only this clip has is marked, and in sight."""
    prompt = in_words(job.spec.prompt)
    start, end = _own_part(prompt, job.batch_name)
    if not start:
        return escape(prompt[:_SHOWN_PROMPT])
    begin = 0 if start <= _IN_SIGHT else prompt.rindex(" ", 0, start - _BEFORE_OWN) + 1
    before, own = prompt[begin:start], prompt[start:end]
    return (
        f"{'… ' if begin else ''}{escape(before)}<mark>{escape(own[:_SHOWN_PROMPT])}</mark>"
        f"{escape(prompt[end : end + _SHOWN_PROMPT])}"
    )


def _own_part(prompt: str, first: str) -> tuple[int, int]:
    """Return where a prompt differs from the first one of its batch, in whole words; (0, 0) if that is not known.

    `first` is the batch's name: its first prompt, cut to the length of names, unless somebody gave it another.
    """
    whole = len(first) < MAX_NAME_LENGTH
    ours, theirs = prompt.split(), in_words(first).split()
    if not whole:
        theirs.pop()  # it may be cut
    same = _same(ours, theirs)
    if len(" ".join(ours[:same])) < _SAME_BEGINNING or same == len(theirs):
        return 0, 0
    same_end = _same(ours[:same:-1], theirs[:same:-1]) if whole else 0
    start = len(" ".join(ours[:same])) + 1
    return start, len(" ".join(ours[: len(ours) - same_end]))


def _same(ours: Sequence[str], theirs: Sequence[str]) -> int:
    """Return how many words two prompts share at their beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(ours, theirs, strict=False)))


def _batch_name(job: Job) -> str:
    if job.batch_name == _collapsed(job.spec.prompt)[:MAX_NAME_LENGTH]:
        return ""
    return f'<span class="of batch-{colour(job.batch)}">{escape(shorten(job.batch_name, 48))}</span>'


def colour(batch: int) -> int:
    """Return which of the batches' colours one has."""
    return batch % BATCH_COLOURS


def _state(job: Job) -> tuple[str, str, str]:
    if job.state is JobState.RUNNING:
        what, more, fraction = progress_words(job)
        return common.STATES[job.state], " · ".join(filter(None, [what, more])), bar(fraction, common.clip(job.number))
    if job.state is JobState.FAILED:
        return common.STATES[job.state], for_page(job.error or ""), ""
    note = for_page(job.note or "")
    if job.dependency is not None:
        name = texts.BLOCKED if job.dependency.blocked else common.STATES[job.state]
        return name, job.dependency.sentence, ""
    if job.state is JobState.DONE and job.seconds is not None:
        return (
            common.STATES[job.state],
            " · ".join(filter(None, [texts.made_in(format_seconds(job.seconds)), note])),
            "",
        )
    return common.STATES[job.state], note, ""


def _picture(job: Job) -> str:
    address = job_picture_url(job)
    image = f'<img src="{escape(address)}" alt="" loading="lazy" decoding="async">' if address else ""
    if job.state is JobState.DONE and job.clip is not None:
        link = f"studio/job/{escape(job.id)}/clip.mp4"
        label = texts.play(job.number)
        return f'<a class="thumb" href="{link}" target="_blank" rel="noopener" aria-label="{label}">{image}</a>'
    return f'<span class="thumb">{image}</span>'


def _is_hidden(action: str, job: Job) -> bool:
    return (action == "cancel" and job.cancelling) or (action == "edit" and job.improves is not None)


def _button(action: str, job: Job) -> str:
    name, label = texts.ACTIONS[action], texts.action_of(action, job.number)
    return (
        f'<button type="button" data-action="{action}" title="{name}" aria-label="{label}">'
        f'<svg viewBox="0 0 24 24" aria-hidden="true"><path d="{_ICONS[action]}"/></svg></button>'
    )


def summary_html(
    counts: Mapping[JobState, int], batch: JobBatch | None, seconds_left: float | None, batches: Sequence[JobBatch] = ()
) -> str:
    """Render the summary above the table, of all jobs or of the shown batch, and buttons for the unfinished batches."""
    total = sum(counts.values())
    ended = total - counts[JobState.QUEUED] - counts[JobState.RUNNING]
    if not total:
        return ""
    time = format_seconds(seconds_left) if seconds_left else ""
    words = texts.ended(ended, total, counts[JobState.FAILED], counts[JobState.CANCELLED], time)
    name = escape(shorten(batch.name, 80)) if batch else texts.ALL_JOBS
    return (
        f'<div class="summary"><p><strong>{name}</strong><span>{escape(words)}</span></p>'
        f"{bar(ended / total, texts.ALL_OF_THESE)}{'' if batch else _batches(batches)}</div>"
    )


def _batches(batches: Sequence[JobBatch]) -> str:
    """Render unfinished batches of several clips as buttons with their progress; a click shows one batch."""
    several = [batch for batch in batches if batch.total > 1 and not batch.ended][:_SHOWN_BATCHES]
    buttons = "".join(map(_batch_button, several))
    return f'<div class="batches" role="group" aria-label="{texts.BATCHES}">{buttons}</div>' if buttons else ""


def _batch_button(batch: JobBatch) -> str:
    name, ended = shorten(batch.name, 40), _ended(batch)
    return (
        f'<button type="button" class="of batch-{colour(batch.id)}" data-batch="{batch.id}">'
        f"<span>{escape(name)}</span><b>{ended}/{batch.total}</b>"
        f"{bar(ended / batch.total, texts.batch(name))}</button>"
    )


def _ended(batch: JobBatch) -> int:
    return batch.total - batch.counts[JobState.QUEUED] - batch.counts[JobState.RUNNING]


def batch_label(batch: JobBatch) -> str:
    """Label a batch for the dropdown."""
    return f"{shorten(batch.name, 48)} ({_ended(batch)}/{batch.total})"


def _collapsed(text: str) -> str:
    return " ".join(text.split())
