"""The document that Gradio's frontend is served in, with what must be there before it: theme, font and icon.

Gradio (6.31) adds its argument `head` to the document only after its own scripts have been loaded and run; until then
the page would have the colours of the system's theme, whatever was chosen. In place of Gradio's login page comes one of
our own, which sends the same request.
"""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from gradio import routes
from jinja2 import BaseLoader, Environment

from ovi_studio.web.fonts import FONTS, font_url
from ovi_studio.web.header.texts import THEMES
from ovi_studio.web.scripts import head_script
from ovi_studio.web.tokens import DARK, LIGHT, token_rules

_DOCUMENTS = ("frontend/index.html", "frontend/share.html")
_HEAD = "<head>"
_LOGIN = Path(__file__).parent / "login" / "login.html"
_FONT_FACES = "".join(
    f'@font-face {{ font-family: "Inter"; font-weight: {weights}; font-display: swap; '
    f'src: url("{font_url(name)}") format("woff2"); }}'
    for name, weights in FONTS.items()
)
_ICON = (
    "<link rel='icon' href=\"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E"
    "%3Crect width='32' height='32' rx='9' fill='"
    + quote(DARK.fill)
    + "'/%3E%3Cpath d='M8 13v6M12 9.5v13M16 12v8M20 8v16"
    "M24 13.5v5' stroke='" + quote(DARK.on_fill) + "' stroke-width='2.2' stroke-linecap='round'/%3E%3C/svg%3E\">"
)
"""Until `away.js` draws one with the progress."""


class _Documents(BaseLoader):
    """Gradio's templates, with our head in those that hold the page."""

    def __init__(self, gradio: BaseLoader) -> None:
        self._gradio = gradio

    def get_source(self, environment: Environment, template: str) -> tuple[str, str | None, Callable[[], bool] | None]:
        source, path, is_current = self._gradio.get_source(environment, template)
        if template in _DOCUMENTS:
            page, login = (_with_head(text) for text in (source, _LOGIN.read_text(encoding="utf-8")))
            source = f"{{% if config.get('auth_required') %}}{login}{{% else %}}{page}{{% endif %}}"
        return source, path, is_current


def _with_head(document: str) -> str:
    return document.replace(_HEAD, f"{_HEAD}{{% raw %}}{head()}{{% endraw %}}", 1)


def head() -> str:
    """Return the script of the theme, and the colours until the theme's stylesheet has been loaded."""
    folder = Path(__file__).parent
    scripts = head_script([folder / name for name in ("shared.js", "frames.js", "theme.js")], {"MODES": THEMES})
    colours = "".join(
        f"html{mode} body {{ background: {palette.background} !important; color: {palette.text}; }}"
        for mode, palette in (("", LIGHT), (".dark", DARK))
    )
    return f"<style>{token_rules()}{colours}{_FONT_FACES}</style>{_ICON}{scripts}"


def serve_own_document() -> None:
    """Let Gradio's servers in this process serve the page in our document."""
    environment = routes.templates.env
    if environment.loader is not None and not isinstance(environment.loader, _Documents):
        environment.loader = _Documents(environment.loader)
