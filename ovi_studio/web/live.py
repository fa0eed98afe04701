"""Parts of the page that show what changes by itself: they are asked together, and only when something has changed.

What has changed is told by the route `studio/pulse`, which `pulse.js` asks twice a second; a handler of Gradio's costs
some twenty times as much.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from ovi_studio.services.studio import Studio
from ovi_studio.web.events import PRIVATE

_LOST = '<p class="lost" role="alert" hidden>Ovi Studio does not answer; this page goes on as soon as it does.</p>'


@dataclass(frozen=True)
class LivePart:
    """A part of the page and how it is brought up to date."""

    refresh: Callable[[Any], Sequence[Any] | None]
    """From what a page shows already to updates for `outputs` and `seen`; None: it shows the latest."""
    outputs: Sequence[Any]
    seen: gr.State
    """What a page shows already."""


def pulse_of(studio: Studio) -> str:
    """Changes with everything that a `LivePart` shows."""
    status = studio.supervisor.status()
    presets = f"{studio.adapter_downloads.state().revision} {studio.presets.revision}"
    return f"{studio.store.change_counter()} {status.condition} {hash(status)} {presets}"


def build_pulse() -> gr.HTML:
    """Has the events `beat`, after any change, and `table`, after one while the queue's table is seen."""
    script = (Path(__file__).parent / "pulse.js").read_text(encoding="utf-8")
    return gr.HTML(_LOST, js_on_load=script, elem_id="pulse", apply_default_css=False)


def connect(parts: Sequence[LivePart], events: Sequence[Callable[..., Any]]) -> None:
    """Bring all parts up to date after any of the events, in one call."""

    def refresh(*seen: Any) -> list[Any]:
        updates: list[Any] = []
        for part, known in zip(parts, seen, strict=True):
            updates += part.refresh(known) or [gr.skip()] * (len(part.outputs) + 1)
        return updates

    outputs = [output for part in parts for output in (*part.outputs, part.seen)]
    for event in events:
        # One that comes while another is answered is not lost.
        event(refresh, [part.seen for part in parts], outputs, trigger_mode="always_last", **PRIVATE)
