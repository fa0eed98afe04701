"""Files from a browser: only files that were uploaded to this server reach a handler.

Gradio's own check ignores a reference without its "meta" field (6.31), so a client could name any file. `uploads_only`
replaces a component's `preprocess`; a subclass would also work, but Gradio writes a stub file next to the source of
each subclass.
"""

from pathlib import Path
from typing import Any

import gradio as gr

from ovi_studio.web import texts


def uploads_only(component: Any, what: str) -> None:
    """Make a `gr.Image` or `gr.File` pass the path of its upload to handlers, unopened; `what` names it in errors."""

    def preprocess(payload: Any) -> str | None:
        if isinstance(payload, list):
            payload = payload[0] if payload else None
        path = getattr(payload, "path", None)
        if path is None and isinstance(payload, dict):
            path = payload.get("path")
        if path is None:
            return None
        if not is_upload(component, path):
            raise gr.Error(texts.not_uploaded(what))
        return str(path)

    component.preprocess = preprocess


def is_upload(component: Any, path: str | Path) -> bool:
    """Whether a path is inside Gradio's upload folder."""
    return Path(path).resolve().is_relative_to(Path(component.GRADIO_CACHE).resolve())


def shown_copy(component: Any, path: Path) -> str:
    """Copy a file into Gradio's folder, which is served to browsers; the studio's own folders are not."""
    return component.move_resource_to_block_cache(path)
