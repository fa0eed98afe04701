"""Event handlers of the Queue tab; each returns updates for its components."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from ovi_studio.core.errors import JobError
from ovi_studio.queue.model import ENDED, JobBatch, JobState
from ovi_studio.services.studio import Studio
from ovi_studio.web.tabs import CREATE_TAB
from ovi_studio.web.tabs.create.tab import CreateForm
from ovi_studio.web.tabs.queue import texts, views
from ovi_studio.web.toasts import Toasts

PAGE_ROWS = 60
ALL = "all"
RETRIED = (JobState.FAILED, JobState.CANCELLED)
"""What is queued again at once; the page lists both as failed."""
_FILTERS: dict[str, tuple[JobState, ...] | None] = {
    ALL: None,
    "waiting": (JobState.QUEUED, JobState.RUNNING),
    "done": (JobState.DONE,),
    "failed": RETRIED,
}

Seen = tuple[int, tuple[Any, ...], tuple[Any, ...]]
"""The change counter, the view and the batch choices that the page already shows."""


class QueueHandlers:
    """The functions behind the components of the tab."""

    def __init__(self, studio: Studio, form: CreateForm, toasts: Toasts) -> None:
        self._studio = studio
        self._toasts = toasts
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

    def act(
        self, event: gr.EventData, request: gr.Request, seen: Seen, batch: int | None, which: str, text: str, page: int
    ) -> Any:
        """Handle an action on a row, or on the pager below the table."""
        data = event._data if isinstance(event._data, dict) else {}
        action, job = str(data.get("action")), str(data.get("job"))
        filled, selected = [gr.skip()] * len(self._form.outputs), gr.skip()
        toast = None
        try:
            if action == "page":
                page = max(0, page + (1 if data.get("step") == 1 else -1))
            elif action == "edit":
                filled, selected = self._edit(job), gr.Tabs(selected=CREATE_TAB)
            elif action in ("cancel", "delete"):
                toast = (self._cancel if action == "cancel" else self._delete)(request, [job])
            else:
                self._change(action, job, data)
        except JobError as error:
            toast = self._toasts.note(str(error), failed=True)
        return *self._after(seen, batch, which, text, page, toast), *filled, selected

    def pause(self, seen: Seen, batch: int | None, which: str, text: str, page: int) -> Any:
        """Pause or resume the queue."""
        (self._store.resume if self._store.paused else self._store.pause)()
        return self._after(seen, batch, which, text, page)

    def cancel_waiting(
        self, request: gr.Request, seen: Seen, batch: int | None, which: str, text: str, page: int
    ) -> Any:
        """Cancel all waiting and running jobs, or those of the shown batch."""
        jobs = self._store.ids(states=[JobState.QUEUED, JobState.RUNNING], batch=batch or None)
        return self._after(seen, batch, which, text, page, self._cancel(request, jobs))

    def retry(self, seen: Seen, batch: int | None, which: str, text: str, page: int) -> Any:
        """Queue all failed and cancelled jobs again, or those of the shown batch."""
        count = self._store.retry(self._store.ids(states=RETRIED, batch=batch or None))
        return self._after(seen, batch, which, text, page, self._toasts.note(texts.queued_again(count)))

    def clear(self, request: gr.Request, seen: Seen, batch: int | None, which: str, text: str, page: int) -> Any:
        """Remove all ended jobs from the list, or those of the shown batch; their clips stay in the library."""
        toast = self._delete(request, self._store.ids(states=ENDED, batch=batch or None))
        return self._after(seen, batch, which, text, page, toast)

    def _cancel(self, request: gr.Request, jobs: Sequence[str]) -> Any:
        if not (count := self._store.cancel(jobs)):
            return None
        return self._toasts.undoable(request, texts.cancelled(count), lambda: self._take_back_cancel(jobs))

    def _take_back_cancel(self, jobs: Sequence[str]) -> None:
        if not self._store.take_back_cancel(jobs):
            raise JobError(texts.NOTHING_TO_TAKE_BACK)

    def _delete(self, request: gr.Request, jobs: Sequence[str]) -> Any:
        if not (count := self._store.delete(jobs)):
            return None
        return self._toasts.undoable(request, texts.removed(count), lambda: self._restore(jobs))

    def _restore(self, jobs: Sequence[str]) -> None:
        if not self._store.restore(jobs):
            raise JobError(texts.NOTHING_TO_TAKE_BACK)

    def _after(self, seen: Seen, batch: int | None, which: str, text: str, page: int, toast: Any = None) -> list[Any]:
        view = (batch or 0, which, text, page)
        return [*self._shown(self._store.change_counter(), view, seen[2]), page, toast or gr.skip()]

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
        filtered = bool(number or states or text.strip())
        return [
            views.summary_html(counts, batch, None if number else self._studio.time_left().seconds, batches),
            views.table_value(jobs, total, offset, filtered=filtered, engines=self._store.engines()),
            gr.skip() if choices == listed else gr.Dropdown(list(choices), value=number if batch else 0),
            gr.Button(
                texts.RESUME if self._store.paused else texts.PAUSE,
                variant="primary" if self._store.paused else "secondary",
            ),
            gr.Button(interactive=bool(counts[JobState.QUEUED] or counts[JobState.RUNNING])),
            gr.Button(interactive=any(counts[state] for state in RETRIED)),
            gr.Button(interactive=any(counts[state] for state in ENDED)),
            (counter, view, choices),
        ]

    def _edit(self, job: str) -> list[Any]:
        found = self._store.get(job)
        if found.state is not JobState.QUEUED:
            raise JobError(texts.ONLY_WAITING)
        return self._form.fill(found.spec, editing=found.id)

    def _change(self, action: str, job: str, data: dict[str, Any]) -> None:
        match action:
            case "retry":
                self._store.retry([job])
            case "duplicate":
                self._store.duplicate([job])
            case "first":
                self._store.move_to_front([job])
            case "move":
                side = "before" if data.get("side") == "before" else "after"
                self._store.move([job], **{side: str(data.get("anchor"))})


def _choices(batches: Sequence[JobBatch]) -> tuple[tuple[str, int], ...]:
    return (texts.ALL_BATCHES, 0), *((views.batch_label(batch), batch.id) for batch in batches)
