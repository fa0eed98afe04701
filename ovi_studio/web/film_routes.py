"""studio/film/<film>/film.mp4: the chosen takes of a film, joined when it is asked for; for `media_routes`."""

import shutil
import tempfile
import threading
from pathlib import Path

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from ovi_studio.core.errors import JobError
from ovi_studio.film.export import export_film
from ovi_studio.media.small_files import slug
from ovi_studio.services.studio import Studio
from ovi_studio.web.public_text import without_folders

_joining = threading.Lock()
"""One at a time: each decodes and encodes a whole film."""
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def send_film(studio: Studio, request: Request) -> Response:
    """Join a film and send it; a sentence if it cannot be joined yet."""
    number = request.path_params["id"]
    folder = Path(tempfile.mkdtemp(prefix="ovi-studio-film-"))
    cleanup = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
    try:
        if not (number.isascii() and number.isdecimal()) or len(number) > 15:
            raise JobError("This is not the number of a film.")
        cut = studio.films.cut_list(int(number))
        name = f"{slug(cut.title) or 'film'}.mp4"
        with _joining:
            path = export_film(cut, folder / name)
    except JobError as error:
        return Response(without_folders(str(error)), 409, _HEADERS, "text/plain", cleanup)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return FileResponse(path, 200, _HEADERS, "video/mp4", cleanup, name)
