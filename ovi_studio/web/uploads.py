"""Files that come from a browser: only what was uploaded to this server reaches a handler.

Gradio's own check passes over a reference that lacks its "meta" field (6.31), so that a client could name any file.
Replace a component's `preprocess` with `uploads_only`; a subclass would do as well, but Gradio writes a stub file
beside the source of each.
"""

from pathlib import Path
from typing import Any

import gradio as gr


def uploads_only(component: Any, what: str) -> None:
    """Let a `gr.Image` or `gr.File` hand the path of its upload to handlers, unopened; `what` names it in errors."""

    def preprocess(payload: Any) -> str | None:
        if isinstance(payload, list):
            payload = payload[0] if payload else None
        path = getattr(payload, "path", None)
        if path is None and isinstance(payload, dict):
            path = payload.get("path")
        if path is None:
            return None
        if not is_upload(component, path):
            raise gr.Error(f"The {what} was not uploaded here; choose the file again.")
        return str(path)

    component.preprocess = preprocess


def is_upload(component: Any, path: str | Path) -> bool:
    """Whether a path lies in Gradio's own folder."""
    return Path(path).resolve().is_relative_to(Path(component.GRADIO_CACHE).resolve())


def shown_copy(component: Any, path: Path) -> str:
    """A copy in Gradio's folder, so that a browser may have it: the folders of the studio are not served."""
    return component.move_resource_to_block_cache(path)
