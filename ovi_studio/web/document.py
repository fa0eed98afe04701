"""The document that Gradio's frontend is served in, with what must be there before the frontend: the theme.

Gradio (6.31) adds its argument `head` to the document only after its own scripts have been loaded and run; until then
the page would have the colours of the system's theme, whatever was chosen.
"""

from collections.abc import Callable
from pathlib import Path

from gradio import routes
from jinja2 import BaseLoader, Environment

from ovi_studio.web.tokens import DARK, LIGHT

_DOCUMENTS = ("frontend/index.html", "frontend/share.html")
_HEAD = "<head>"


class _Documents(BaseLoader):
    """Gradio's templates, with our head in those that hold the page."""

    def __init__(self, gradio: BaseLoader) -> None:
        self._gradio = gradio

    def get_source(self, environment: Environment, template: str) -> tuple[str, str | None, Callable[[], bool] | None]:
        source, path, is_current = self._gradio.get_source(environment, template)
        if template in _DOCUMENTS:
            source = source.replace(_HEAD, f"{_HEAD}{{% raw %}}{head()}{{% endraw %}}", 1)
        return source, path, is_current


def head() -> str:
    """Return the script of the theme, and the colours until the theme's stylesheet has been loaded."""
    script = (Path(__file__).parent / "theme.js").read_text(encoding="utf-8")
    colours = "".join(
        f"html{mode} body {{ background: {palette.background} !important; color: {palette.text}; }}"
        for mode, palette in (("", LIGHT), (".dark", DARK))
    )
    return f"<style>{colours}</style><script>{script}</script>"


def serve_own_document() -> None:
    """Let Gradio's servers in this process serve the page in our document."""
    environment = routes.templates.env
    if environment.loader is not None and not isinstance(environment.loader, _Documents):
        environment.loader = _Documents(environment.loader)
