"""Event handlers of the stage. Jobs are named only by id; whatever cannot be done is said in a toast."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import gradio as gr

from ovi_studio.core.errors import JobError
from ovi_studio.core.requests import draw_seeds
from ovi_studio.core.spans import ALL, NOTHING, kept_around
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.variants import Variant
from ovi_studio.media.clip_files import FirstFrameMissing, read_record
from ovi_studio.queue.model import ENDED, Job, JobState
from ovi_studio.services.studio import Studio
from ovi_studio.web.tabs.create.stage import texts, views
from ovi_studio.web.toasts import Toasts
from ovi_studio.web.uploads import shown_copy
from ovi_studio.web.views import notice_html

SHOWN_CLIPS = 24
"""Finished clips in the filmstrip."""
SHOWN_RUNNING = 8


class StageForm(Protocol):
    """The part of the Create form that the stage fills."""

    @property
    def first_frame(self) -> gr.Image: ...

    @property
    def outputs(self) -> list[Any]: ...

    def fill(self, spec: ClipSpec | None = None, *, prompt: str | None = None, notice: str = "") -> list[Any]: ...


class StageHandlers:
    """The functions behind the stage."""

    def __init__(self, studio: Studio, form: StageForm, toasts: Toasts) -> None:
        self._studio = studio
        self._form = form
        self._toasts = toasts

    def refresh(self, seen: Any) -> Any:
        """Update the status and the filmstrip; `seen` is (change counter, revision of the library) already shown."""
        store = self._studio.store
        now = store.change_counter(), self._studio.library.revision
        if now == seen:
            return None
        running = store.jobs(states=[JobState.RUNNING], limit=SHOWN_RUNNING)
        # A clip whose file was deleted keeps its job.
        done = [
            job for job in store.jobs(states=[JobState.DONE], limit=2 * SHOWN_CLIPS) if job.clip and job.clip.is_file()
        ]
        done = done[:SHOWN_CLIPS]
        ended = next(iter(store.jobs(states=ENDED, limit=1)), None)
        waiting = store.counts()[JobState.QUEUED]
        status = views.status_html(running, ended, waiting, store.paused, bool(done))
        return status, views.filmstrip_html(running, done, store.grid_batches(), waiting), now

    def choose(self, event: gr.EventData) -> Any:
        """Show the buttons and the settings of the clip that is on the stage."""
        try:
            job = self._job(event)
        except JobError:
            return "", ""
        return self._bar(job), views.recipe_html(job, self._variant(job), _size(job))

    def vary(self, event: gr.EventData) -> Any:
        """Queue the clip again with a new seed."""
        try:
            job = self._job(event)
            self._studio.queue([replace(job.spec, seed=draw_seeds(1)[0])], job.batch_name, priority=job.priority)
        except JobError as error:
            return self._failed(error)
        return self._toasts.note(texts.queued_again(job.number))

    def new_sound(self, event: gr.EventData) -> Any:
        """Queue another sound for the picture of the clip, which has its first frame already."""
        return self._half_again(event, texts.sound_queued, keep_picture=ALL, keep_sound=NOTHING, image=None)

    def new_picture(self, event: gr.EventData) -> Any:
        """Queue another picture for the sound of the clip."""
        return self._half_again(event, texts.picture_queued, keep_picture=NOTHING, keep_sound=ALL)

    def use(self, event: gr.EventData) -> Any:
        """Put the settings of the clip into the form, with its seed."""
        try:
            job = self._job(event)
            return *self._filled(self._settings(job)), self._toasts.note(texts.filled(job.number))
        except JobError as error:
            return self._unfilled(error)

    def extend(self, event: gr.EventData) -> Any:
        """Put the settings of the clip into the form, with its last frame as the first one."""
        try:
            job = self._job(event)
            spec = self._studio.library.continuation(self._clip(job))
            return *self._filled(spec), self._toasts.note(texts.continued(job.number))
        except JobError as error:
            return self._unfilled(error)

    def make_part(self, event: gr.EventData) -> Any:
        """Put the clip into the form as its own source, of which only a span of time is made again."""
        try:
            job = self._job(event)
            self._clip(job)
            return *self._filled(_part_again(job, _data(event))), self._toasts.note(texts.part_filled(job.number))
        except JobError as error:
            return self._unfilled(error)

    def take_frame(self, event: gr.EventData) -> Any:
        """Make the last frame of the clip the first frame of the form, and leave the other fields."""
        try:
            job = self._job(event)
            frame = self._studio.library.last_frame(self._clip(job))
        except JobError as error:
            return gr.skip(), self._failed(error)
        return shown_copy(self._form.first_frame, frame), self._toasts.note(texts.first_frame_taken(job.number))

    def mark(self, event: gr.EventData) -> Any:
        """Make the clip a favourite, or none."""
        try:
            job = self._job(event)
            self._studio.library.set_favourite([self._clip(job)], bool(_data(event).get("favourite")))
            return self._bar(job), gr.skip()
        except JobError as error:
            return gr.skip(), self._failed(error)

    def remove(self, event: gr.EventData, request: gr.Request) -> Any:
        """Move the clip to the trash, and offer to take it back."""
        try:
            job = self._job(event)
            trashed = self._studio.library.trash([self._clip(job)])
        except JobError as error:
            return self._failed(error)

        def restore() -> None:
            self._studio.library.restore(trashed)

        return self._toasts.undoable(request, texts.trashed(job.number), restore)

    def cancel(self, event: gr.EventData, request: gr.Request) -> Any:
        """Cancel the job whose button was pressed, and no other; it can be taken back."""
        try:
            job = self._job(event)
            if not self._studio.store.cancel([job.id]):
                return gr.skip()  # it has ended
        except JobError as error:
            return self._failed(error)

        def take_back() -> None:
            self._studio.store.take_back_cancel([job.id])

        return self._toasts.undoable(request, texts.cancelled(job.number), take_back)

    def _half_again(self, event: gr.EventData, said: Callable[[int], str], **kept: Any) -> Any:
        """Queue the clip with a new seed and one half of itself as its source, whatever it was made from."""
        try:
            job = self._job(event)
            self._clip(job)
            self._studio.queue([_of_itself(job, **kept)], job.batch_name, priority=job.priority)
        except JobError as error:
            return self._failed(error)
        return self._toasts.note(said(job.number))

    def _job(self, event: gr.EventData) -> Job:
        return self._studio.store.get(str(_data(event).get("id")))

    def _clip(self, job: Job) -> str:
        """The id of the job's clip in the library; raises `JobError` if it is not there."""
        if job.clip is None:
            raise JobError(texts.NO_CLIP)
        return self._studio.library.find(job.clip.name)

    def _settings(self, job: Job) -> ClipSpec:
        """The settings of a clip, which outlive the queue's copy of its first frame in the clip itself."""
        return self._studio.library.settings(self._clip(job))

    def _filled(self, spec: ClipSpec) -> list[Any]:
        return self._form.fill(spec)

    def _unfilled(self, error: JobError) -> Any:
        if isinstance(error, FirstFrameMissing):
            notice = notice_html(str(error), texts.WITHOUT_FIRST_FRAME)
            return *self._form.fill(error.spec, notice=notice), gr.skip()
        return *[gr.skip()] * len(self._form.outputs), self._failed(error)

    def _failed(self, error: JobError) -> Any:
        return self._toasts.note(f"{texts.NOT_DONE}: {error}", failed=True)

    def _bar(self, job: Job) -> str:
        try:
            favourite = self._studio.library.get(self._clip(job)).favourite
        except JobError:
            favourite = None
        return views.result_bar_html(job, favourite, job.batch in self._studio.store.grid_batches())

    def _variant(self, job: Job) -> Variant | None:
        try:
            return self._studio.variant(job.spec.variant)
        except JobError:
            return None  # the clip's model was removed


def _of_itself(job: Job, **kept: Any) -> ClipSpec:
    """The settings of a clip with a new seed and itself as its source, whatever it was made from."""
    source: dict[str, Any] = {"source": job.clip, "source_sha256": None, "strength": 1.0, "resamples": 0}
    return replace(job.spec, seed=draw_seeds(1)[0], **source, **kept)


def _part_again(job: Job, part: dict[str, Any]) -> ClipSpec:
    start, end, only = _seconds(part, "from") or 0.0, _seconds(part, "to"), part.get("only")
    picture, sound = kept_around(start, end, only if only in ("picture", "sound") else None)
    # A beginning that is kept has its first frame already.
    image = None if picture and picture[0].start == 0 else job.spec.image
    return _of_itself(job, keep_picture=picture, keep_sound=sound, image=image)


def _seconds(part: dict[str, Any], name: str) -> float | None:
    value = part.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise JobError(texts.NO_SECONDS)
    return float(value)


def _size(job: Job) -> tuple[int, int] | None:
    """Height and width of a job's clip; None if its file is gone, or older than this record."""
    if job.clip is None:
        return None
    try:
        height, width = read_record(job.clip)["size"]
    except (JobError, KeyError, TypeError, ValueError):
        return None
    return height, width


def _data(event: gr.EventData) -> dict[str, Any]:
    return event._data if isinstance(event._data, dict) else {}
