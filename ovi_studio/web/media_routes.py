"""Pictures and clips for the browser, by id: `launch(app_kwargs={"routes": media_routes(studio)})`.

URLs are relative to the page, so that they also work behind a share link:

    studio/job/<job>/picture.jpg      the picture of a queue row: poster, preview or first frame, scaled down
    studio/job/<job>/preview.jpg      the live preview of a running job
    studio/job/<job>/clip.mp4         the clip of a finished job; ?download=1 saves it
    studio/job/<job>/poster.jpg
    studio/job/<job>/sound.json       the waveform of its sound, and where its speech is
    studio/job/<job>/spectrogram.png
    studio/job/<job>/export.<format>  its sound (wav), a frame (png) or a loop (gif, webp); see `media.exports`
    studio/job/<job>/export.zip       it and its settings as a table
    studio/clip/<clip>/...            all of these of a clip of the library
    studio/clip/<clip>/about.json     and studio/clips.zip: see `clip_routes`
    studio/film/<film>/film.mp4       a film whose shots are made; see `film_routes`
    studio/lora/<adapter>/preview.jpg the picture next to a LoRA file, scaled down
    studio/template/<template>/picture the picture of a shipped template
    studio/font/<file>                the page's font
    studio/pulse                      a text that changes with anything the page shows; ?known= waits for another one

Ids are only looked up; no path is built from them. If the page has a login, all routes but the font's require it too.
"""

import io
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import quote

from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from ovi_studio.core.errors import JobError
from ovi_studio.media.exports import FORMATS, ExportOptions, export
from ovi_studio.media.pictures import read_picture
from ovi_studio.media.speech_timing import estimate_speech
from ovi_studio.queue.model import Job, JobState
from ovi_studio.queue.paths import StudioPaths
from ovi_studio.services.soundtracks import spectrogram_png
from ovi_studio.services.studio import Studio
from ovi_studio.services.templates import PICTURES
from ovi_studio.web.clip_routes import about_clip, bundle_clips, posted_ids, send_zip
from ovi_studio.web.film_routes import send_film
from ovi_studio.web.fonts import font_route
from ovi_studio.web.guard import is_logged_in
from ovi_studio.web.live import next_pulse, pulse_of
from ovi_studio.web.public_text import without_folders

THUMBNAIL_SIDE = 192
PREVIEW_SIDE = 480
_exports = threading.BoundedSemaphore(2)
"""Each of them decodes a clip, which takes a core."""
_EXPORT_PATIENCE = 30.0
"""Seconds that one waits for others."""
_FOREVER = "private, max-age=86400, immutable"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    # Whatever a file contains, a browser that opens it runs no code.
    "Content-Security-Policy": "default-src 'none'; media-src 'self'; img-src 'self'; sandbox",
}


def media_routes(studio: Studio) -> list[Route]:
    """Return the routes to add to Gradio's server."""

    def route(path: str, answer: Callable[[Studio, Request], Response]) -> Route:
        def guarded(request: Request) -> Response:
            if not is_logged_in(request):
                return Response("Log in first.", 401)
            try:
                return answer(studio, request)
            except (JobError, FileNotFoundError):
                return Response("This no longer exists.", 404)

        return Route(f"/studio/{path}", guarded, methods=["GET", "HEAD"])

    async def bundle(request: Request) -> Response:
        if not is_logged_in(request):
            return Response("Log in first.", 401)
        try:
            return await run_in_threadpool(bundle_clips, studio, await posted_ids(request))
        except JobError:
            return Response("These clips no longer exist.", 404)

    async def pulse(request: Request) -> Response:
        if not is_logged_in(request):
            return Response("Log in first.", 401)
        known = request.query_params.get("known")
        now = pulse_of(studio) if known is None else await next_pulse(studio, known)
        return Response(str(now), media_type="text/plain", headers=_HEADERS | {"Cache-Control": "no-store"})

    return [
        Route("/studio/clips.zip", bundle, methods=["POST"]),
        route("clip/{id}/about.json", about_clip),
        Route("/studio/pulse", pulse, methods=["GET"]),
        route("job/{id}/picture.jpg", _job_picture),
        route("job/{id}/preview.jpg", _job_preview),
        route("job/{id}/clip.mp4", partial(_job_file, suffix=".mp4")),
        route("job/{id}/poster.jpg", partial(_job_file, suffix=".jpg")),
        route("job/{id}/sound.json", partial(_sound, find=_job_clip)),
        route("job/{id}/spectrogram.png", partial(_spectrogram, find=_job_clip)),
        route("clip/{id}/clip.mp4", partial(_library_file, suffix=".mp4")),
        route("clip/{id}/poster.jpg", partial(_library_file, suffix=".jpg")),
        route("clip/{id}/sound.json", partial(_sound, find=_library_clip)),
        route("clip/{id}/spectrogram.png", partial(_spectrogram, find=_library_clip)),
        *(
            route(f"{name}/{{id}}/export.{kind}", partial(_export, kind=kind, find=find))
            for name, find in (("job", _job_clip), ("clip", _library_clip))
            for kind in FORMATS
        ),
        route("job/{id}/export.zip", _job_bundle),
        route("clip/{id}/export.zip", _library_bundle),
        route("film/{id}/film.mp4", send_film),
        route("lora/{id}/preview.jpg", _adapter_preview),
        route("template/{id}/picture", _template_picture),
        font_route(),
    ]


def job_picture_url(job: Job) -> str | None:
    """Return the URL of a job's picture, which changes with the picture; None if there is none."""
    if job.state is JobState.DONE and job.clip is not None:
        return f"studio/job/{job.id}/picture.jpg?done"
    if job.progress is not None and job.progress.preview is not None:
        # Not every step has a new preview; an unchanged URL lets the browser use its cache.
        return f"studio/job/{job.id}/preview.jpg?{_version(job.progress.preview)}"
    return None if job.spec.image is None else f"studio/job/{job.id}/picture.jpg?frame={job.spec.image.stem[:12]}"


def _version(path: Path) -> str:
    try:
        return f"{path.stat().st_mtime_ns:x}"
    except OSError:
        return "0"


def _job_picture(studio: Studio, request: Request) -> Response:
    job = studio.store.get(request.path_params["id"])
    preview = job.progress.preview if job.progress else None
    path = job.poster or preview or job.spec.image
    if path is None:
        raise JobError("There is no picture.")
    if path.is_symlink() or path.parent not in (studio.paths.outputs, studio.paths.previews, studio.paths.pictures):
        raise FileNotFoundError
    if path == job.spec.image:
        # With the colours that the clip will have.
        picture = read_picture(path, raw_colours=job.spec.raw_colours)
        return _jpeg(Image.fromarray(picture.pixels), THUMBNAIL_SIDE)
    return _scaled(path, THUMBNAIL_SIDE)


def _job_preview(studio: Studio, request: Request) -> Response:
    job = studio.store.get(request.path_params["id"])
    if job.progress is None or job.progress.preview is None:
        raise JobError("There is no preview.")
    data = job.progress.preview.read_bytes()
    return Response(data, media_type="image/jpeg", headers=_HEADERS | {"Cache-Control": _FOREVER})


FindClip = Callable[[Studio, str], tuple[Path, str]]
"""Returns the mp4 and the prompt of the clip with an id; raises `JobError`."""


def _job_clip(studio: Studio, job_id: str) -> tuple[Path, str]:
    job = studio.store.get(job_id)
    if job.clip is None:
        raise JobError("There is no clip.")
    return job.clip, job.spec.prompt


def _library_clip(studio: Studio, clip: str) -> tuple[Path, str]:
    return studio.library.path(clip), studio.library.get(clip).spec.prompt


def _sound(studio: Studio, request: Request, find: FindClip) -> Response:
    path, prompt = find(studio, request.path_params["id"])
    sound = studio.soundtracks.get(_served(path, studio.paths))
    speech = [
        {"who": block.who, "words": [[word.text, round(word.start, 3), round(word.end, 3)] for word in block.words]}
        for block in estimate_speech(prompt, sound)
    ]
    content = {"seconds": sound.seconds, "peaks": sound.peaks.ravel().tolist(), "speech": speech}
    return JSONResponse(content, headers=_HEADERS | {"Cache-Control": _FOREVER})


def _spectrogram(studio: Studio, request: Request, find: FindClip) -> Response:
    path, _ = find(studio, request.path_params["id"])
    data = spectrogram_png(studio.soundtracks.get(_served(path, studio.paths)))
    return Response(data, media_type="image/png", headers=_HEADERS | {"Cache-Control": _FOREVER})


def _export(studio: Studio, request: Request, kind: str, find: FindClip) -> Response:
    path = _served(find(studio, request.path_params["id"])[0], studio.paths)
    if not _exports.acquire(timeout=_EXPORT_PATIENCE):
        return Response("Other clips are being exported; try again in a moment.", 503)
    try:
        options = ExportOptions(
            **{
                name: _number(request, name)
                for name in ("frame", "milliseconds", "side")
                if name in request.query_params
            }
        )
        data = export(path, kind, options)
    except JobError as error:
        return Response(without_folders(str(error)), 400)
    finally:
        _exports.release()
    name = f"{path.stem}.{kind}"
    saved = {"Content-Disposition": f"attachment; filename*=utf-8''{quote(name)}"}
    return Response(data, media_type=FORMATS[kind], headers=_HEADERS | saved)


def _job_bundle(studio: Studio, request: Request) -> Response:
    job = studio.store.get(request.path_params["id"])
    path = _served(_job_clip(studio, job.id)[0], studio.paths)
    return send_zip([(path, job.spec)], f"{path.stem}.zip")


def _library_bundle(studio: Studio, request: Request) -> Response:
    clip = request.path_params["id"]
    path = _served(studio.library.path(clip), studio.paths)
    return send_zip([(path, studio.library.get(clip).spec)], f"{path.stem}.zip")


def _number(request: Request, name: str) -> int:
    try:
        return int(request.query_params[name])
    except ValueError as error:
        raise JobError(f"{name} must be a whole number.") from error


def _job_file(studio: Studio, request: Request, suffix: str) -> Response:
    path, _ = _job_clip(studio, request.path_params["id"])
    return _file(path.with_suffix(suffix), studio.paths, request)


def _library_file(studio: Studio, request: Request, suffix: str) -> Response:
    clip = request.path_params["id"]
    if suffix == ".mp4":
        return _file(studio.library.path(clip), studio.paths, request)
    poster = studio.library.get(clip).poster
    if poster is None:
        raise JobError("There is no poster.")
    return _file(poster, studio.paths, request)


def _file(path: Path, paths: StudioPaths, request: Request) -> Response:
    path = _served(path, paths)
    kind = "video/mp4" if path.suffix == ".mp4" else "image/jpeg"
    name = path.name if "download" in request.query_params else None
    return FileResponse(path, media_type=kind, filename=name, headers=_HEADERS | {"Cache-Control": _FOREVER})


def _served(path: Path, paths: StudioPaths) -> Path:
    """The path, if it is a regular file directly in the output folder."""
    if path.is_symlink() or not path.is_file() or path.parent != paths.outputs:
        raise FileNotFoundError
    return path


def _adapter_preview(studio: Studio, request: Request) -> Response:
    # `AdapterEntry.preview` is never outside the library or a link out of it.
    preview = studio.adapters.get(request.path_params["id"]).preview
    if preview is None:
        raise JobError("There is no preview.")
    return _scaled(preview, PREVIEW_SIDE)


def _template_picture(studio: Studio, request: Request) -> Response:
    picture = studio.templates.picture(request.path_params["id"])
    if picture is None:
        raise JobError("There is no picture.")
    # Drawn pictures have no script, and the policy would not let one run.
    headers = _HEADERS | {"Cache-Control": _FOREVER}
    return FileResponse(picture, media_type=PICTURES[picture.suffix], headers=headers)


def _scaled(path: Path, side: int) -> Response:
    try:
        with Image.open(path) as image:
            image.draft("RGB", (side, side))
            return _jpeg(image, side)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise FileNotFoundError from error


def _jpeg(image: Image.Image, side: int) -> Response:
    """Scale a picture down in place, to at most `side` pixels, and answer with it."""
    image.thumbnail((side, side))
    data = io.BytesIO()
    image.convert("RGB").save(data, "JPEG", quality=80)
    return Response(data.getvalue(), media_type="image/jpeg", headers=_HEADERS | {"Cache-Control": _FOREVER})
