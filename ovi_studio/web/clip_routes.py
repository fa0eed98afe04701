"""What the browser reads about clips of the library besides their media, for `media_routes`.

studio/clip/<clip>/about.json     the prompt, settings, tags and favourite mark of a clip
studio/clip/<clip>/export.zip     a clip with its settings; studio/job/<job>/export.zip, too
studio/clips.zip                  clips and a table of their settings; a form posts `ids`, separated by spaces
"""

import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qs, quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.media.origin import describe_credentials, describe_mark
from ovi_studio.media.score_box import read_scores
from ovi_studio.services.clip_bundle import MAX_CLIPS, zip_clips
from ovi_studio.services.studio import Studio
from ovi_studio.takes.check import fault_lines, score_summary
from ovi_studio.web.public_text import without_folders
from ovi_studio.web.tabs.library import texts
from ovi_studio.web.tabs.library.views import describe_clip

_NEVER = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def about_clip(studio: Studio, request: Request) -> Response:
    """Describe a clip; raises `JobError` if it is gone."""
    clip = studio.library.get(request.path_params["id"])
    try:
        title = studio.variant(clip.spec.variant).title
    except JobError:
        title = clip.spec.variant
    about = describe_clip(clip, title)
    about["facts"] += _facts_of_file(studio.library.path(clip.id))
    return JSONResponse(about, headers=_NEVER)


def _facts_of_file(path: Path) -> list[tuple[str, str]]:
    """What is read from the file only when somebody looks at it: what was measured, and what says who made it."""
    try:
        scores, mark, credentials = read_scores(path), describe_mark(path), describe_credentials(path)
    except OSError:
        return []
    checks = "; ".join([*score_summary(scores), *fault_lines(scores)])
    facts = [(texts.CHECKS, checks), (texts.MARK, mark), (texts.CREDENTIALS, credentials)]
    return [(name, without_folders(text)) for name, text in facts if text]


async def posted_ids(request: Request) -> list[str]:
    """The ids of a form, at most as many as fit into one zip; the guard limits the size of the form."""
    fields = parse_qs((await request.body()).decode("ascii", "replace"))
    return " ".join(fields.get("ids", [])).split()[:MAX_CLIPS]


def bundle_clips(studio: Studio, ids: list[str]) -> Response:
    """Send clips as a zip; those that are gone are left out. Raises `JobError` if all are."""
    clips = []
    for clip in dict.fromkeys(ids):
        try:
            clips.append((studio.library.path(clip), studio.library.get(clip).spec))
        except JobError:
            continue
    if not clips:
        raise JobError("There is no such clip.")
    return send_zip(clips, time.strftime("ovi-clips-%Y%m%d-%H%M%S.zip"))


def send_zip(clips: Sequence[tuple[Path, ClipSpec]], name: str) -> Response:
    """Send a zip of these files and their settings under a file name."""
    headers = _NEVER | {"Content-Disposition": f"attachment; filename*=utf-8''{quote(name)}"}
    return StreamingResponse(zip_clips(clips), media_type="application/zip", headers=headers)
