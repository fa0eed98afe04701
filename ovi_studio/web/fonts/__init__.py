"""The bundled font: Inter 4.0 by The Inter Project Authors, SIL Open Font License 1.1 (`OFL.txt`).

The files hold the Latin letters, digits and signs of the original's Regular and SemiBold, as made by

    pyftsubset Inter-Regular.otf --flavor=woff2 --layout-features=kern,liga,calt,tnum,case,ccmp,locl,mark,mkmk \\
        --unicodes=U+0020-007E,U+00A0-017F,U+2010-2026,U+2030,U+2039,U+203A,U+20AC,U+2122,U+2190-2193,U+2212

Other scripts are shown in the system's fonts.
"""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

FONTS = {"inter-400.woff2": "100 500", "inter-600.woff2": "501 900"}
"""The font's files, with the weights that each stands for."""
_FOREVER = "public, max-age=31536000, immutable"


def font_url(name: str) -> str:
    """Return the URL of a file, relative to the page."""
    return f"studio/font/{name}"


def font_route() -> Route:
    """Return the route of the files; the login page needs them as well, so it is open to all."""

    def serve(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in FONTS:
            return Response("There is no such font.", 404)
        headers = {"Cache-Control": _FOREVER, "X-Content-Type-Options": "nosniff"}
        return FileResponse(Path(__file__).parent / name, media_type="font/woff2", headers=headers)

    return Route("/studio/font/{name}", serve, methods=["GET", "HEAD"])
