"""Event handlers of the Queue tab; each returns updates for its components."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from ovi_studio.core.errors import JobError
from ovi_studio.queue.model import ENDED, JobBatch, JobState
from ovi_studio.services.studio import Studio
from ovi_studio.web.tabs import CREATE_TAB
from ovi_studio.web.tabs.create.tab import CreateForm
from ovi_studio.web.tabs.queue import views
from ovi_studio.web.views import notice_html, success_html

PAGE_ROWS = 60
ALL = "all"
_FILTERS: dict[str, tuple[JobState, ...] | None] = {
    ALL: None,
    "waiting": (JobState.QUEUED, JobState.RUNNING),
    "done": (JobState.DONE,),
    "failed": (JobState.FAILED, JobState.CANCELLED),
}

Seen = tuple[int, tuple[Any, ...], tuple[Any, ...]]
"""The change counter, the view and the batch choices that the page already shows."""


class QueueHandlers:
    """The functions behind the components of the tab."""

    def __init__(self, studio: Studio, form: CreateForm) -> None:
        self._studio = studio
        self._store = studio.store
        self._form = form

    def refresh(self, seen: Seen, batch: int | None, which: str, text: str, page: int) -> Any:
        """Return updates for `QueueComponents.shown`, or none if nothing changed."""
        counter = self._store.change_counter()
        view = (batch or 0, which, text, page)
        if (counter, view) == seen[:2]:
            return gr.skip()
        return self._shown(counter, view, seen[2])

    def apply_filters(self, seen: Seen, batch: int | None, which: str, text: str, page: int) -> Any:
        """Apply changed filters, starting at the first page."""
        view = (batch or 0, which, text, 0)
        return *self._shown(self._store.change_counter(), view, seen[2]), 0

    def choose_batch(self, event: gr.EventData, seen: Seen, batch: int | None, which: str, text: str, page: int) -> Any:
        """Show a single batch. The number comes from the client; an unknown one just has no jobs."""
        number = event._data.get("batch")
        view = (number if isinstance(number, int) else 0, which, text, 0)
        # Without known choices, so that the dropdown of batches is sent with its new value.
        return *self._shown(self._store.change_counter(), view, ()), 0

    def act(self, event: gr.EventData, seen: Seen, batch: int | None, which: str, text: str, page: int) -> Any:
        """Handle an action on a row, or on the pager below the table."""
        data = event._data if isinstance(event._data, dict) else {}
        action, job = str(data.get("action")), str(data.get("job"))
        filled, selected = [gr.skip()] * len(self._form.outputs), gr.skip()
        notice = ""
        try:
            if action == "page":
                page = max(0, page + (1 if data.get("step") == 1 else -1))
            elif action == "edit":
                filled, selected = self._edit(job), gr.Tabs(selected=CREATE_TAB)
            else:
                self._change(action, job, data)
        except JobError as error:
            notice = notice_html(str(error), "The action failed")
        return *self._after(seen, batch, which, text, page, notice), *filled, selected

    def pause(self, seen: Seen, batch: int | None, which: str, text: str, page: int) -> Any:
        """Pause or resume the queue."""
        (self._store.resume if self._store.paused else self._store.pause)()
        return self._after(seen, batch, which, text, page)

    def cancel_waiting(self, seen: Seen, batch: int | None, which: str, text: str, page: int) -> Any:
        """Cancel all waiting and running jobs, or those of the shown batch."""
        count = self._store.cancel(self._store.ids(states=[JobState.QUEUED, JobState.RUNNING], batch=batch or None))
        return self._after(seen, batch, which, text, page, _count_html(count, "cancelled"))

    def retry_failed(self, seen: Seen, batch: int | None, which: str, text: str, page: int) -> Any:
        """Queue all failed jobs again, or those of the shown batch."""
        count = self._store.retry(self._store.ids(states=[JobState.FAILED], batch=batch or None))
        return self._after(seen, batch, which, text, page, _count_html(count, "queued again"))

    def clear(self, seen: Seen, batch: int | None, which: str, text: str, page: int) -> Any:
        """Remove all ended jobs from the list, or those of the shown batch; their clips stay in the library."""
        if batch:
            count = self._store.delete(self._store.ids(states=ENDED, batch=batch))
        else:
            count = self._store.clear_finished()
        notice = _count_html(count, "removed from the list; the clips stay in the library")
        return self._after(seen, batch, which, text, page, notice)

    def _after(self, seen: Seen, batch: int | None, which: str, text: str, page: int, notice: str = "") -> list[Any]:
        view = (batch or 0, which, text, page)
        return [*self._shown(self._store.change_counter(), view, seen[2]), page, notice]

    def _shown(self, counter: int, view: tuple[Any, ...], listed: tuple[Any, ...]) -> list[Any]:
        number, which, text, page = view
        states = _FILTERS.get(which)
        batches = self._store.batches(limit=100)
        batch = next((found for found in batches if found.id == number), None)
        total = self._store.count(states=states, batch=number or None, text=text)
        offset = min(page, max(0, (total - 1) // PAGE_ROWS)) * PAGE_ROWS
        jobs = self._store.jobs(states=states, batch=number or None, text=text, offset=offset, limit=PAGE_ROWS)
        counts = self._store.counts(number or None)
        choices = _choices(batches)
        return [
            views.summary_html(counts, batch, None if number else self._seconds_left(), batches),
            views.table_value(jobs, total, offset),
            gr.skip() if choices == listed else gr.Dropdown(list(choices), value=number if batch else 0),
            gr.Button(
                "Resume" if self._store.paused else "Pause", variant="primary" if self._store.paused else "secondary"
            ),
            gr.Button(interactive=bool(counts[JobState.QUEUED] or counts[JobState.RUNNING])),
            gr.Button(interactive=bool(counts[JobState.FAILED])),
            gr.Button(interactive=any(counts[state] for state in ENDED)),
            (counter, view, choices),
        ]

    def _seconds_left(self) -> float:
        running = self._studio.current_job()
        left = running.progress.seconds_left if running and running.progress else None
        return self._studio.estimate_queue().seconds + (left or 0)

    def _edit(self, job: str) -> list[Any]:
        found = self._store.get(job)
        if found.state is not JobState.QUEUED:
            raise JobError("Only a waiting job can be edited; duplicate this one instead.")
        notice = success_html(f"You are editing clip {found.number}.")
        return self._form.fill(found.spec, editing=found.id, notice=notice)

    def _change(self, action: str, job: str, data: dict[str, Any]) -> None:
        match action:
            case "cancel":
                self._store.cancel([job])
            case "retry":
                self._store.retry([job])
            case "duplicate":
                self._store.duplicate([job])
            case "delete":
                self._store.delete([job])
            case "first":
                self._store.move_to_front([job])
            case "move":
                side = "before" if data.get("side") == "before" else "after"
                self._store.move([job], **{side: str(data.get("anchor"))})


def _choices(batches: Sequence[JobBatch]) -> tuple[tuple[str, int], ...]:
    return ("All batches", 0), *((views.batch_label(batch), batch.id) for batch in batches)


def _count_html(count: int, what: str) -> str:
    jobs = "1 job was" if count == 1 else f"{count} jobs were"
    return success_html(f"{jobs} {what}.")
