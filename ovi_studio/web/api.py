"""The API for `gradio_client`, with the same jobs as the page. Documented in `docs/api.md`.

Only ids cross it; pictures are uploaded and clips downloaded. A client that disconnects ends its own call and no job.
The size of a request is limited before it is parsed (`guard`).
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from ovi_studio.core.errors import JobError
from ovi_studio.core.prompts import MAX_PROMPT_LENGTH
from ovi_studio.core.requests import Request, SeedMode
from ovi_studio.queue.model import ENDED, Job, JobState
from ovi_studio.services.studio import Studio
from ovi_studio.web.uploads import shown_copy, uploads_only

POLL_SECONDS = 0.25
MAX_LISTED = 1000
MAX_IDS = 10_000


def build_api(studio: Studio) -> None:
    """Add the endpoints `/queue`, `/list`, `/wait`, `/cancel`, `/retry` and `/clip` to the current `gr.Blocks`."""
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
        answer, file = gr.JSON(label="Answer"), gr.File(label="Clip")
        hidden = [gr.Button() for _ in range(6)]
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
        count: float = 1,
        name: str = "",
        priority: float = 0,
    ) -> dict[str, Any]:
        """Queue a prompt, which may be a pattern.

        `settings` are the other fields of a clip; if they have no seed, `count` seeds are drawn. Returns the ids of
        the jobs, and warnings about the prompts.
        """
        try:
            given = dict(settings or {})
            if unsuitable := {"prompt", "image", "variant"} & given.keys():
                raise JobError(
                    f"The settings contain {', '.join(sorted(unsuitable))}; pass it as its own parameter instead."
                )
            mode = SeedMode.RANDOM if given.get("seed") in (None, "") else SeedMode.FIXED
            chosen = variant or next((found.name for found in self._studio.variants()), "")
            values = {**given, "prompt": prompt, "variant": chosen, "image": picture}
            clips = self._studio.expand(Request(values, None, mode, int(count or 1)))
            jobs = self._studio.queue(clips.specs, str(name or ""), priority=int(priority or 0))
            return {"jobs": jobs, "warnings": [str(warning) for warning in clips.warnings[:MAX_LISTED]]}
        except (JobError, TypeError, ValueError, OverflowError) as error:
            raise gr.Error(str(error), print_exception=False) from error

    def list(self, state: str = "", offset: float = 0, limit: float = 200) -> list[dict[str, Any]]:
        """List the running jobs, then the waiting ones in their order, then the others, latest first."""
        try:
            states = [JobState(state)] if state else None
        except ValueError as error:
            raise gr.Error(f"State {state[:20]!r} is not known.", print_exception=False) from error
        rows = min(max(0, int(limit or 0)), MAX_LISTED)
        return [
            job_facts(job) for job in self._studio.store.jobs(states=states, offset=max(0, int(offset)), limit=rows)
        ]

    async def wait(self, job: str) -> AsyncIterator[dict[str, Any]]:
        """Yield the state of a job whenever it changes, until the job has ended."""
        sent: dict[str, Any] | None = None
        while True:
            # Fast enough for the event loop: a tenth of a millisecond.
            facts = job_facts(self._get(job))
            if facts != sent:
                sent = facts
                yield facts
            if facts["state"] in ENDED:
                return
            await asyncio.sleep(POLL_SECONDS)

    def cancel(self, jobs: Any) -> dict[str, int]:
        """Cancel jobs by their ids; returns the number of cancelled jobs."""
        return {"cancelled": self._studio.store.cancel(_ids(jobs))}

    def retry(self, jobs: Any) -> dict[str, int]:
        """Queue failed and cancelled jobs again; returns their number."""
        return {"queued": self._studio.store.retry(_ids(jobs))}

    def clip(self, job: str) -> str:
        """Return the clip of a finished job, as an mp4 file."""
        found = self._get(job)
        path = found.clip
        if path is None:
            raise gr.Error(f"The job is {found.state}; it has no clip.", print_exception=False)
        if path.is_symlink() or not path.is_file():
            raise gr.Error("The clip was moved or deleted.", print_exception=False)
        return shown_copy(self.file, path)

    def _get(self, job: str) -> Job:
        try:
            return self._studio.store.get(job)
        except JobError as error:
            raise gr.Error(str(error), print_exception=False) from error


def job_facts(job: Job) -> dict[str, Any]:
    """Describe a job for clients, without any path of this machine."""
    progress = job.progress
    spec = job.spec.to_dict() | {"image": job.spec.image is not None}
    return {
        "id": job.id,
        "number": job.number,
        "batch": job.batch_name,
        "state": str(job.state),
        "priority": job.priority,
        "attempt": job.attempt,
        "phase": str(progress.phase) if progress else None,
        "step": progress.step if progress else 0,
        "steps": job.spec.steps,
        "part": progress.fraction if progress else None,
        "seconds_left": progress.seconds_left if progress else None,
        "seconds": job.seconds,
        "error": job.error,
        "note": job.note,
        "clip": _name(job.clip),
        "spec": spec,
    }


def _name(path: Path | None) -> str | None:
    return None if path is None else path.name


def _ids(given: Any) -> list[str]:
    ids = [given] if isinstance(given, str) else given
    if not isinstance(ids, list) or len(ids) > MAX_IDS or not all(isinstance(job, str) for job in ids):
        raise gr.Error("Pass the id of a job, or a list of ids.", print_exception=False)
    return ids
