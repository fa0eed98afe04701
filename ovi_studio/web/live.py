"""Parts of the page that update by themselves, all in one call, and only when something has changed.

`pulse.js` polls the route `studio/pulse` for changes twice a second; a Gradio handler would cost some twenty times as
much.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from ovi_studio.services.studio import Studio
from ovi_studio.web.events import PRIVATE

_LOST = (
    '<p class="lost" role="alert" data-trouble="" hidden><i class="dot"></i>'
    '<span data-of="lost" hidden>No connection; this page goes on by itself</span>'
    '<span data-of="login" hidden>You are logged out. <a href="">Log in again</a></span></p>'
)


@dataclass(frozen=True)
class LivePart:
    """A part of the page that updates by itself."""

    refresh: Callable[[Any], Sequence[Any] | None]
    """Takes the value of `seen`; returns updates for `outputs` and `seen`, or None if nothing has changed."""
    outputs: Sequence[Any]
    seen: gr.State
    """The version that the page already shows."""


def pulse_of(studio: Studio) -> str:
    """Return a text that changes whenever anything that a `LivePart` shows changes."""
    status = studio.supervisor.status()
    downloads = f"{studio.adapter_downloads.state().revision} {studio.model_downloads.state().revision}"
    others = f"{downloads} {studio.presets.revision} {studio.library.revision}"
    return f"{studio.store.change_counter()} {status.condition} {hash(status)} {others}"


def build_pulse() -> gr.HTML:
    """Add the component with the events `beat`, on any change, and `table`, on a change while the queue is visible."""
    script = (Path(__file__).parent / "pulse.js").read_text(encoding="utf-8")
    return gr.HTML(_LOST, js_on_load=script, elem_id="pulse", apply_default_css=False)


def connect(parts: Sequence[LivePart], events: Sequence[Callable[..., Any]]) -> None:
    """Refresh all parts in one call after any of the events."""

    def refresh(*seen: Any) -> list[Any]:
        updates: list[Any] = []
        for part, known in zip(parts, seen, strict=True):
            updates += part.refresh(known) or [gr.skip()] * (len(part.outputs) + 1)
        return updates

    outputs = [output for part in parts for output in (*part.outputs, part.seen)]
    for event in events:
        # An event during a running refresh is not lost.
        event(refresh, [part.seen for part in parts], outputs, trigger_mode="always_last", **PRIVATE)
