"""The route that receives dropped files: `POST studio/drop?name=<file name>` with the file as the body.

Its answer is {"ticket": ...} for `Intake.take`, or {"detail": sentence}. No path of the server reaches the client.
"""

from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ovi_studio.core.errors import JobError
from ovi_studio.media.small_files import folder_errors, part_path
from ovi_studio.services.intake import Intake, too_large
from ovi_studio.web.drop import texts
from ovi_studio.web.guard import DROP_PATH, is_logged_in
from ovi_studio.web.public_text import without_folders

_BLOCK = 2**20
_MAX_NAME = 500


def drop_routes(intake: Intake) -> list[Route]:
    """Return the routes to add to Gradio's server."""

    async def receive(request: Request) -> Response:
        if not is_logged_in(request):
            return JSONResponse({"detail": texts.LOG_IN}, 401)
        try:
            return JSONResponse({"ticket": await _receive(intake, request)})
        except JobError as error:
            return JSONResponse({"detail": without_folders(str(error))}, 422)

    return [Route(DROP_PATH, receive, methods=["POST"])]


async def _receive(intake: Intake, request: Request) -> str:
    name = request.query_params.get("name", "")[:_MAX_NAME]
    declared = request.headers.get("content-length", "")
    size = int(declared) if declared.isascii() and declared.isdigit() else 0
    path, ticket, limit = await run_in_threadpool(intake.begin, name, size)
    complete = False
    try:
        await _write(request, path, limit)
        complete = True
    except ClientDisconnect:
        raise JobError(texts.incomplete(path.name)) from None
    finally:
        if not complete:
            intake.discard(ticket)
    return ticket


async def _write(request: Request, path: Path, limit: int) -> None:
    part, size, waiting = part_path(path), 0, bytearray()
    with folder_errors(path.parent):
        with part.open("wb") as file:
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise JobError(too_large(path.name, limit))
                waiting += chunk
                if len(waiting) >= _BLOCK:
                    await run_in_threadpool(file.write, bytes(waiting))
                    waiting.clear()
            await run_in_threadpool(file.write, bytes(waiting))
        part.replace(path)
