"""The API for `gradio_client`, with the same jobs as the page. Documented in `docs/api.md`.

Only ids cross it; pictures are uploaded and clips downloaded. A client that disconnects ends its own call and no job.
The size of a request is limited before it is parsed (`guard`).
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from ovi_studio.core.errors import JobError
from ovi_studio.core.grids import Grid
from ovi_studio.core.prompts import MAX_PROMPT_LENGTH
from ovi_studio.core.requests import Expansion, Request, SeedMode
from ovi_studio.queue.model import ENDED, ClipPhase, Job, JobProgress, JobState
from ovi_studio.services.grids import ChosenAxis, plan_grid
from ovi_studio.services.studio import Studio
from ovi_studio.web.api_values import as_sent, mapping, sentences, whole
from ovi_studio.web.film_api import build_film_api
from ovi_studio.web.public_text import without_folders
from ovi_studio.web.uploads import shown_copy, uploads_only

POLL_SECONDS = 0.25
MAX_LISTED = 1000
MAX_IDS = 10_000
_WAYS = ("across", "down")


def build_api(studio: Studio) -> None:
    """Add the endpoints to the current `gr.Blocks`, each called like its method of `ApiCalls`."""
    calls = ApiCalls(studio)
    with gr.Column(visible=False):
        prompt = gr.Textbox("", label="Prompt", max_length=MAX_PROMPT_LENGTH)
        variant = gr.Textbox("", label="Model variant; empty: the best complete one", max_length=100)
        picture = gr.File(None, label="First frame", type="filepath")
        uploads_only(picture, "first frame")
        settings = gr.JSON({}, label="Other fields of a clip, such as steps, seed, size, shift")
        count = gr.Number(1, label="Seeds for each prompt", precision=0)
        name = gr.Textbox("", label="Name of the batch", max_length=200)
        priority = gr.Number(0, label="Priority; higher ones run first", precision=0)
        job, jobs = gr.Textbox("", label="Job"), gr.JSON([], label="Jobs")
        state = gr.Textbox("", label="State: queued, running, done, failed, cancelled; empty: all", max_length=20)
        offset, limit = gr.Number(0, label="Offset", precision=0), gr.Number(200, label="Limit", precision=0)
        for number in (count, priority, offset, limit):
            # Gradio's own conversion of what is no number ends in an error without a sentence.
            number.preprocess = as_sent
        answer, file = gr.JSON(label="Answer"), gr.File(label="Clip")
        upscaler = gr.Textbox("", label="Name of an upscaler; empty: the size stays", max_length=300)
        fps = gr.Number(None, label="Frames a second: 48 or 60; empty: as they are", precision=0)
        fps.preprocess = as_sent
        across, down = (gr.Textbox("", label=f"Axis {way}, such as seed or steps", max_length=200) for way in _WAYS)
        across_values, down_values = (gr.JSON([], label=f"Values {way}") for way in _WAYS)
        hidden = [gr.Button() for _ in range(9)]
        calls.file = file
    event_options: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden"}
    hidden[0].click(
        calls.queue,
        [prompt, variant, picture, settings, count, name, priority],
        answer,
        api_name="queue",
        **event_options,
    )
    hidden[1].click(calls.list, [state, offset, limit], answer, api_name="list", **event_options)
    hidden[2].click(calls.wait, job, answer, api_name="wait", **event_options)
    hidden[3].click(calls.cancel, jobs, answer, api_name="cancel", **event_options)
    hidden[4].click(calls.retry, jobs, answer, api_name="retry", **event_options)
    hidden[5].click(calls.clip, job, file, api_name="clip", **event_options)
    hidden[6].click(calls.suggest, [prompt, variant, picture], answer, api_name="suggest", **event_options)
    hidden[7].click(calls.improve, [jobs, upscaler, fps, name, priority], answer, api_name="improve", **event_options)
    hidden[8].click(
        calls.grid,
        [prompt, across, across_values, down, down_values, variant, picture, settings, name, priority],
        answer,
        api_name="grid",
        **event_options,
    )
    build_film_api(studio)


class ApiCalls:
    """The functions behind the endpoints. Clients see a `gr.Error` as an exception."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self.file: gr.File | None = None

    def queue(
        self,
        prompt: str,
        variant: str = "",
        picture: str | None = None,
        settings: Mapping[str, Any] | None = None,
        count: float | None = 1,
        name: str = "",
        priority: float | None = 0,
    ) -> dict[str, Any]:
        """Queue a prompt, which may be a pattern.

        `settings` are the other fields of a clip; if they have no seed, `count` seeds are drawn. Their `source` is the
        id of a finished job, whose clip is kept in part. Returns the ids of the jobs, warnings about the prompts, and
        notes about how the picture was understood.
        """
        with sentences():
            request = self._request(prompt, variant, picture, settings, whole("count", count, 1))
            return self._queued(self._studio.expand(request), name, priority)

    def grid(
        self,
        prompt: str,
        across: str,
        across_values: Any,
        down: str = "",
        down_values: Any = None,
        variant: str = "",
        picture: str | None = None,
        settings: Mapping[str, Any] | None = None,
        name: str = "",
        priority: float | None = 0,
    ) -> dict[str, Any]:
        """Queue one prompt over one setting, or two, as a batch that the page shows as a table.

        `across` and `down` are `seed`, a setting, `preset`, or `strength:` with the name of an adapter of the clip.
        Returns what `queue` does, and the grid: its titles and labels, and the ids of the jobs row by row.
        """
        with sentences():
            rows = ChosenAxis(str(down), _texts("down_values", down_values)) if down else None
            columns = ChosenAxis(str(across or ""), _texts("across_values", across_values))
            request = self._request(prompt, variant, picture, settings, 1)
            planned = plan_grid(self._studio, request, columns, rows)
            answer = self._queued(planned.expansion, name, priority, planned.grid)
            width = len(planned.grid.columns)
            cells = [answer["jobs"][start : start + width] for start in range(0, planned.grid.cells, width)]
            return answer | {"grid": planned.grid.to_json() | {"jobs": cells}}

    def _request(
        self, prompt: str, variant: str, picture: str | None, settings: Mapping[str, Any] | None, count: int
    ) -> Request:
        given = mapping(settings)
        if unsuitable := {"prompt", "image", "variant"} & given.keys():
            raise JobError(
                f"The settings contain {', '.join(sorted(unsuitable))}; pass it as its own parameter instead."
            )
        if given.get("source") not in (None, ""):
            given["source"] = str(self._finished(given["source"]))
        mode = SeedMode.RANDOM if given.get("seed") in (None, "") else SeedMode.FIXED
        chosen = variant or next((found.name for found in self._studio.variants()), "")
        return Request({**given, "prompt": prompt, "variant": chosen, "image": picture}, None, mode, count)

    def _queued(self, clips: Expansion, name: Any, priority: Any, grid: Grid | None = None) -> dict[str, Any]:
        jobs = self._studio.queue(clips.specs, str(name or ""), priority=whole("priority", priority, 0), grid=grid)
        warnings = [str(warning) for warning in clips.warnings[:MAX_LISTED]]
        return {"jobs": jobs, "warnings": warnings, "notes": list(clips.notes)}

    def list(self, state: str = "", offset: float = 0, limit: float = 200) -> list[dict[str, Any]]:
        """List the running jobs, then the waiting ones in their order, then the others, latest first."""
        with sentences():
            if state and state not in [*JobState]:
                raise JobError(f"Unknown state {state[:20]!r}; valid states are {', '.join(JobState)}.")
            first, rows = whole("offset", offset, 0), min(whole("limit", limit, 200), MAX_LISTED)
            if first < 0 or rows < 0:
                raise JobError("Offset and limit must be 0 or more.")
            states = [JobState(state)] if state else None
            return [job_facts(job) for job in self._studio.store.jobs(states=states, offset=first, limit=rows)]

    async def wait(self, job: str) -> AsyncIterator[dict[str, Any]]:
        """Yield the state of a job whenever it changes, until the job has ended."""
        sent: dict[str, Any] | None = None
        while True:
            # Fast enough for the event loop: a tenth of a millisecond.
            facts = job_facts(self.get(job))
            if facts != sent:
                sent = facts
                yield facts
            if facts["state"] in ENDED:
                return
            await asyncio.sleep(POLL_SECONDS)

    def cancel(self, jobs: Any) -> dict[str, int]:
        """Cancel jobs by their ids; returns the number of cancelled jobs."""
        with sentences():
            return {"cancelled": self._studio.store.cancel(_ids(jobs))}

    def retry(self, jobs: Any) -> dict[str, int]:
        """Queue failed and cancelled jobs again; returns their number."""
        with sentences():
            return {"queued": self._studio.store.retry(_ids(jobs))}

    def clip(self, job: str) -> str:
        """Return the clip of a finished job, as an mp4 file."""
        with sentences():
            return shown_copy(self.file, self._finished(job))

    def _finished(self, job: Any) -> Path:
        """Return the clip of a job, raising `JobError` if it has none."""
        (known,) = _ids(job)
        found = self._studio.store.get(known)
        if found.clip is None:
            raise JobError(f"The job is {found.state}; it has no clip.")
        if found.clip.is_symlink() or not found.clip.is_file():
            raise JobError("The clip was moved or deleted.")
        return found.clip

    def suggest(self, prompt: str, variant: str = "", picture: str | None = None) -> dict[str, Any]:
        """Let the owner's chat model rewrite a prompt, which may be a pattern, in the form of a variant.

        Nothing is queued. Returns the suggestion, warnings about it, and the difference in pieces that were kept,
        removed or added. Pass the old prompt as `typed_prompt` in the settings of `queue` to have both in the clip.
        """
        with sentences():
            chosen = self._studio.variant(variant) if variant else self._studio.variants()[0]
            path = None if picture is None else Path(picture)
            found = self._studio.prompt_helper.suggest(prompt, chosen, path)
            changes = [{"change": str(edit), "text": text} for edit, text in found.changes]
            return {"prompt": found.after, "warnings": list(found.warnings), "changes": changes}

    def improve(
        self, jobs: Any, upscaler: str = "", fps: float | None = None, name: str = "", priority: float | None = 0
    ) -> dict[str, Any]:
        """Queue larger and smoother copies of the clips of jobs, which may not be done yet.

        Returns the new jobs, and which of the given ones cannot be improved, with the reason.
        """
        with sentences():
            wanted = {"upscaler": upscaler or None, "fps": whole("fps", fps, 0) or None}
            chosen = whole("priority", priority, 0)
            queued = self._studio.improvements.improve_jobs(_ids(jobs), wanted, str(name or ""), priority=chosen)
            refused = [{"job": job, "reason": without_folders(reason)} for job, reason in queued.refused.items()]
            return {"jobs": queued.jobs, "refused": refused}

    def get(self, job: str) -> Job:
        """Look up a job by its id."""
        with sentences():
            (known,) = _ids(job)
            return self._studio.store.get(known)


def job_facts(job: Job) -> dict[str, Any]:
    """Describe a job for clients, without any path of this machine."""
    progress = job.progress
    spec = job.spec.to_dict() | {"image": job.spec.image is not None, "source": _name(job.spec.source)}
    return {
        "id": job.id,
        "number": job.number,
        "batch": job.batch_name,
        "state": str(job.state),
        "priority": job.priority,
        "attempt": job.attempt,
        "phase": str(progress.phase) if progress else None,
        "step": progress.step if progress else 0,
        "steps": progress.total if progress and _has_other_steps(job, progress) else job.spec.steps,
        "part": progress.fraction if progress else None,
        "seconds_left": progress.seconds_left if progress else None,
        "seconds": job.seconds,
        "error": job.error and without_folders(job.error),
        "note": job.note and without_folders(job.note),
        "waits": job.dependency and job.dependency.sentence,
        "blocked": job.dependency is not None and job.dependency.blocked,
        "clip": _name(job.clip),
        "improvement": job.improves and job.improves.improvement.to_dict(),
        "spec": spec,
    }


def _has_other_steps(job: Job, progress: JobProgress) -> bool:
    """Whether the steps of a job are not those of its clip now."""
    return job.improves is not None or progress.phase is ClipPhase.DRAWING


def _name(path: Path | None) -> str | None:
    return None if path is None else path.name


def _texts(name: str, given: Any) -> Sequence[str]:
    """The values of an axis, which may be numbers."""
    values = given if isinstance(given, list) else [given]
    if not all(isinstance(value, str | int | float) and not isinstance(value, bool) for value in values):
        raise JobError(f"{name} must be a list of numbers or texts, such as [10, 20, 30].")
    return [str(value) for value in values]


def _ids(given: Any) -> list[str]:
    ids = [given] if isinstance(given, str) else given
    if not isinstance(ids, list) or len(ids) > MAX_IDS or not all(_is_id(job) for job in ids):
        raise JobError(f"Pass the id of a job, or a list of at most {MAX_IDS} ids.")
    return ids


def _is_id(job: Any) -> bool:
    # Lone surrogates, which JSON can contain, are in no id and cannot be looked up.
    return isinstance(job, str) and job.isascii()
