"""MCP for programs that use language models: the jobs of the API as tools, at `/mcp`, with `--mcp` only.

The tools call the same functions as the API (`api.ApiCalls`), so that limits and sentences are the same; only ids, text
and small pictures cross it, never a path of this machine. Streamable HTTP without sessions: a restart of the server
breaks no client. The guard asks for the login, as the page's cookie or as HTTP Basic, before a request comes here.

Not Gradio's `mcp_server=True` (6.31): its tools call the server once more over HTTP, which fails behind a login, fetch
pictures from any address, and answer with Python's notation.
"""

import base64
import binascii
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, Any

import anyio
import gradio as gr
from mcp.server.fastmcp import Context, FastMCP, Image
from mcp.server.fastmcp.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import ToolAnnotations
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.routing import BaseRoute

from ovi_studio.core.errors import JobError
from ovi_studio.core.improvement import FRAME_RATES
from ovi_studio.core.spec import ClipSpec
from ovi_studio.film.fountain import MAX_CHARACTERS
from ovi_studio.film.script import MAX_NAME
from ovi_studio.queue.model import ENDED, JobState
from ovi_studio.services.grids import grid_kinds
from ovi_studio.services.studio import Studio
from ovi_studio.web.api import ApiCalls, job_facts
from ovi_studio.web.film_api import FilmCalls
from ovi_studio.web.guard import MCP_PATH
from ovi_studio.web.public_text import without_folders
from ovi_studio.web.views import tag_of

MAX_WAIT = 600
_POLL_SECONDS = 0.5
_RATES = " or ".join(map(str, FRAME_RATES))
_PNG = b"\x89PNG"
_INSTRUCTIONS = """
Ovi Studio makes short video clips with sound (speech, effects) from a text prompt, and optionally a first frame.
Call show_settings once to learn the models, their sizes and the prompt format. Then queue_clips, wait_for_job with the
ids that it returns, and fetch_clip. Clips take from seconds to many minutes each and are made one after another.
"""
_READS = ToolAnnotations(readOnlyHint=True, openWorldHint=False)
_ADDS = ToolAnnotations(readOnlyHint=False, destructiveHint=False, openWorldHint=False)
_ENDS = ToolAnnotations(readOnlyHint=False, destructiveHint=True, idempotentHint=True, openWorldHint=False)

JobId = Annotated[str, Field(description="The id of a job, from queue_clips or list_jobs.")]
JobIds = Annotated[list[str], Field(description="Ids of jobs, from queue_clips or list_jobs.", max_length=10_000)]
Model = Annotated[str, Field(description="A model's name from show_settings; empty: the best one.")]
Settings = Annotated[
    dict[str, Any] | None,
    Field(description='Settings that differ from their defaults, such as {"steps": 20, "seed": 42}.'),
]
BatchName = Annotated[str, Field(description="A name for this batch on the page.", max_length=200)]
Priority = Annotated[int, Field(description="Higher ones run first.", ge=-100, le=100)]
FirstFrame = Annotated[
    str,
    Field(description="A PNG or JPEG in base64, at most about 700 kB, with which the clip begins; empty: none."),
]


class McpServer:
    """The routes and the lifespan to pass to Gradio's server.

    Args:
        root_path: the path under which a proxy serves the page, as in `app.py`.
    """

    def __init__(self, studio: Studio, root_path: str = "") -> None:
        # The guard checks host and origin for the whole server.
        security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
        self._server = FastMCP(
            "Ovi Studio",
            _INSTRUCTIONS.strip(),
            stateless_http=True,
            streamable_http_path=MCP_PATH,
            transport_security=security,
            log_level="WARNING",
        )
        tools = Tools(studio, root_path)
        for tool, annotations in (
            (tools.show_settings, _READS),
            (tools.queue_clips, _ADDS),
            (tools.queue_grid, _ADDS),
            (tools.improve_clips, _ADDS),
            (tools.wait_for_job, _READS),
            (tools.list_jobs, _READS),
            (tools.cancel_jobs, _ENDS),
            (tools.retry_jobs, _ADDS),
            (tools.queue_film, _ADDS),
            (tools.show_film, _READS),
            (tools.export_film, _READS),
        ):
            self._server.add_tool(tool, annotations=annotations)
        # A picture is no structured output.
        self._server.add_tool(tools.fetch_clip, annotations=_READS, structured_output=False)
        self.routes: list[BaseRoute] = list(self._server.streamable_http_app().routes)

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        """Run the server's tasks for as long as the web server runs."""
        async with self._server.session_manager.run():
            yield


class Tools:
    """The tools; their docstrings are what a model reads."""

    def __init__(self, studio: Studio, root_path: str = "") -> None:
        self._studio = studio
        self._root_path = root_path
        self._calls = ApiCalls(studio)
        self._films = FilmCalls(studio)

    async def show_settings(
        self,
        job: Annotated[
            str, Field(description="The id of a job, to see the settings that it has; empty: what can be set.")
        ] = "",
    ) -> dict[str, Any]:
        """Show what can be set, or the settings of one job.

        Without a job: the models with their sizes, length and prompt format, the default of every setting that
        queue_clips accepts, the axes of queue_grid with values to choose from, and the upscalers of improve_clips.
        With a job: its prompt and all of its settings, with which the same clip is made again.
        """
        return await _answer(lambda: self._settings_of(job) if job else self._possible())

    async def queue_clips(
        self,
        prompt: Annotated[
            str,
            Field(
                description="What is seen, as plain sentences. Speech stands in <S>…<E>, the sound at the end in the "
                "tag of the model's prompt format. {red|blue} makes one clip of each.",
                max_length=4000,
            ),
        ],
        model: Model = "",
        settings: Settings = None,
        count: Annotated[int, Field(description="Clips for each prompt, with different seeds.", ge=1, le=1000)] = 1,
        name: BatchName = "",
        priority: Priority = 0,
        first_frame: FirstFrame = "",
    ) -> dict[str, Any]:
        """Add clips to the queue and return at once.

        Returns the ids of the jobs in the order in which they run, warnings about the prompt (the clips are made
        anyway; a warning may contain a better form), and notes about the first frame.
        """

        def queue() -> dict[str, Any]:
            with _picture(first_frame) as path:
                return self._calls.queue(prompt, model, path, settings, count, name, priority)

        return await _answer(queue)

    async def queue_grid(
        self,
        prompt: Annotated[
            str, Field(description="One prompt as in queue_clips, without {braces|of} choices.", max_length=4000)
        ],
        across: Annotated[
            str,
            Field(
                description="What differs from column to column: a name of grid_axes in show_settings, or strength: "
                "with the name of an adapter in the settings."
            ),
        ],
        across_values: Annotated[
            list[str | int | float],
            Field(description='Two or more values, such as [10, 20, 40]; for seeds also "3 random".', max_length=100),
        ],
        down: Annotated[str, Field(description="What differs from row to row; empty: there is one row.")] = "",
        down_values: Annotated[
            list[str | int | float] | None, Field(description="The values of the rows.", max_length=100)
        ] = None,
        model: Model = "",
        settings: Settings = None,
        name: BatchName = "",
        priority: Priority = 0,
        first_frame: FirstFrame = "",
    ) -> dict[str, Any]:
        """Make one clip over one setting, or two, to compare them: a batch of at most 100 clips, shown as a table.

        All other settings are the same, the seed too. Returns what queue_clips does, and in `grid` the labels of
        columns and rows with the ids of the jobs, row by row.
        """

        def queue() -> dict[str, Any]:
            with _picture(first_frame) as path:
                return self._calls.grid(
                    prompt, across, across_values, down, down_values, model, path, settings, name, priority
                )

        return await _answer(queue)

    async def improve_clips(
        self,
        jobs: JobIds,
        upscaler: Annotated[
            str, Field(description="A name of upscalers in show_settings; empty: the size stays.", max_length=300)
        ] = "",
        fps: Annotated[
            int, Field(description=f"Frames a second: {_RATES}; 0: they stay as they are.", ge=0, le=max(FRAME_RATES))
        ] = 0,
        name: BatchName = "",
        priority: Priority = 0,
    ) -> dict[str, Any]:
        """Queue copies of clips with a larger picture, more frames a second, or both; the originals are kept.

        The jobs may still be waiting: then the copies wait for their clips. Returns the ids of the new jobs, for
        wait_for_job and fetch_clip, and as refused those that cannot be improved, with the reason.
        """
        return await _answer(lambda: self._calls.improve(jobs, upscaler, fps, name, priority))

    async def wait_for_job(
        self,
        job: JobId,
        context: Context[Any, Any, Any],
        seconds: Annotated[
            float, Field(description="How long to wait at most; then call it again.", ge=0, le=MAX_WAIT)
        ] = 60,
    ) -> dict[str, Any]:
        """Wait until a job has ended, or for some seconds, and return its state.

        `state` is queued, running, done, failed or cancelled; `error` says why it failed and what to do; while it runs,
        `step` of `steps` and `seconds_left` tell how far it is. Progress is reported meanwhile.
        """
        with anyio.move_on_after(seconds):
            while True:
                facts = await _answer(lambda: job_facts(self._calls.get(job)))
                if facts["state"] in ENDED:
                    return facts
                message = f"{facts['state']}, {facts['phase'] or 'waiting'}"
                await context.report_progress(facts["step"], facts["steps"], message)
                await anyio.sleep(_POLL_SECONDS)
        return await _answer(lambda: job_facts(self._calls.get(job)))

    async def list_jobs(
        self,
        state: Annotated[
            str, Field(description="Only jobs in this state: queued, running, done, failed, cancelled.")
        ] = "",
        offset: Annotated[int, Field(description="Jobs to skip.", ge=0)] = 0,
        limit: Annotated[int, Field(description="Jobs to return.", ge=1, le=200)] = 20,
    ) -> dict[str, Any]:
        """List jobs: the running ones, then the waiting ones in their order, then those that ended, latest first."""
        return await _answer(lambda: {"jobs": self._calls.list(state, offset, limit)})

    async def cancel_jobs(self, jobs: JobIds) -> dict[str, int]:
        """Cancel waiting and running jobs; returns how many. Clips that are done are kept."""
        return await _answer(lambda: self._calls.cancel(jobs))

    async def retry_jobs(self, jobs: JobIds) -> dict[str, int]:
        """Queue failed and cancelled jobs again; returns how many."""
        return await _answer(lambda: self._calls.retry(jobs))

    async def queue_film(
        self,
        film: Annotated[
            dict[str, Any] | None,
            Field(
                description='A film as an object, such as {"title": "Rain", "characters": {"Mara": {"looks": "a woman '
                'in yellow", "voice": "a low voice"}}, "shots": [{"prompt": "Mara climbs the stairs.", "speech": '
                '[{"who": "Mara", "said": "Still burning."}], "sound": "Rain."}, {"prompt": "She stops.", "begin": '
                '"previous"}]}. A shot that begins with "previous" goes on from the last frame of the one before.'
            ),
        ] = None,
        screenplay: Annotated[
            str, Field(description="Instead of an object, a screenplay in Fountain form.", max_length=MAX_CHARACTERS)
        ] = "",
        title: Annotated[str, Field(description="Of a screenplay that has none.", max_length=MAX_NAME)] = "",
        priority: Priority = 0,
    ) -> dict[str, Any]:
        """Queue a film: shots with the same people and places, each a clip of its own.

        Returns the number of the film, the ids of its jobs, and remarks about prompts.
        """
        return await _answer(lambda: self._films.film_queue(film, screenplay, title, priority))

    async def show_film(
        self, film: Annotated[int, Field(description="The number of a film; 0: list all films.", ge=0)] = 0
    ) -> dict[str, Any]:
        """Show a film: its data, how many of its shots are made, and the takes of each with what was measured."""
        return await _answer(lambda: self._films.film_status(film) if film else {"films": self._films.film_list()})

    async def export_film(
        self, film: Annotated[int, Field(description="The number of a film.", ge=1)], context: Context[Any, Any, Any]
    ) -> dict[str, Any]:
        """Tell where a film can be downloaded once all of its shots are made: the chosen takes, joined into one mp4.

        The download needs the same login as these tools, if there is one.
        """
        root = self._root(context)
        shots = await _answer(lambda: len(self._studio.films.cut_list(film).shots))
        return {"shots": shots, "url": f"{root}/studio/film/{film}/film.mp4"}

    async def fetch_clip(self, job: JobId, context: Context[Any, Any, Any]) -> list[Any]:
        """Fetch the clip of a finished job: a still picture of it to look at, and where its mp4 can be downloaded.

        The download needs the same login as these tools, if there is one.
        """
        root = self._root(context)
        poster, facts = await _answer(lambda: self._clip(job, root))
        return [*([Image(data=poster, format="jpeg")] if poster else []), facts]

    def _root(self, context: Context[Any, Any, Any]) -> str:
        """The address under which the client sees this server."""
        request = context.request_context.request
        return f"{request.url.scheme}://{request.headers['host']}{self._root_path}"

    def _settings_of(self, job: str) -> dict[str, Any]:
        return job_facts(self._calls.get(job))["spec"]

    def _possible(self) -> dict[str, Any]:
        variants = self._studio.variants()
        if not variants:
            raise JobError("No model is installed; download one in the System tab.")
        defaults = ClipSpec(prompt="any", variant=variants[0].name).to_dict()
        described = [
            {
                "name": variant.name,
                "title": variant.title,
                "seconds": round(variant.seconds, 2),
                "sizes_height_width": self._studio.sizes(variant.name),
                "prompt_format": f"What is seen. Someone says, <S>the words.<E> {tag_of(variant).wrap('The sound.')}",
            }
            for variant in variants
        ]
        kept = {name: value for name, value in defaults.items() if name not in ("prompt", "variant", "image")}
        return {
            "models": described,
            "settings_with_their_defaults": kept,
            "grid_axes": {kind.name: list(kind.values.values()) for kind in grid_kinds(self._studio).values()},
            "upscalers": self._studio.improvements.upscalers(),
        }

    def _clip(self, job: str, root: str) -> tuple[bytes | None, dict[str, Any]]:
        found = self._calls.get(job)
        if found.state is not JobState.DONE or found.clip is None:
            raise JobError(f"The job is {found.state}; it has no clip.")
        if found.clip.is_symlink() or not found.clip.is_file():
            raise JobError("The clip was moved or deleted.")
        poster = found.clip.with_suffix(".jpg")
        still = poster.read_bytes() if poster.is_file() and not poster.is_symlink() else None
        url = f"{root}/studio/job/{found.id}/clip.mp4?download=1"
        return still, {"name": found.clip.name, "bytes": found.clip.stat().st_size, "url": url}


async def _answer(act: Callable[[], Any]) -> Any:
    """Run in a thread; what people can put right reaches the client as a sentence."""
    try:
        return await run_in_threadpool(act)
    except (JobError, gr.Error) as error:
        sentence = error.message if isinstance(error, gr.Error) else str(error)
        raise ToolError(without_folders(str(sentence))) from None


@contextmanager
def _picture(encoded: str) -> Iterator[str | None]:
    """A picture as a file for as long as it is queued, which copies it."""
    if not encoded:
        yield None
        return
    try:
        data = base64.b64decode(encoded.rpartition(",")[2], validate=True)
    except (binascii.Error, ValueError):
        raise JobError("The first frame is not valid base64; send the bytes of a PNG or JPEG in base64.") from None
    with tempfile.TemporaryDirectory(prefix="ovi-studio-") as folder:
        path = Path(folder) / f"first-frame{'.png' if data.startswith(_PNG) else '.jpg'}"
        path.write_bytes(data)
        yield str(path)
