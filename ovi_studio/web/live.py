"""Parts of the page that update by themselves, all in one call, and only when something has changed.

`pulse.js` asks the route `studio/pulse` what there is; a Gradio handler would cost some twenty times as much. The
answer waits for news: what people wait for, such as a clip that is done, arrives at once, and progress twice a second.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.concurrency import run_in_threadpool

from ovi_studio.services.studio import Studio
from ovi_studio.web.events import LATEST

LOOK_SECONDS = 0.1
"""How often a waiting answer looks for news; a look costs some 0.3 ms."""
PROGRESS_SECONDS = 0.5
"""How often the page hears of progress alone."""
HOLD_SECONDS = 1.0
"""The longest wait: it delays the end of the server, and tells the page that the server lives."""


@dataclass(frozen=True)
class LivePart:
    """A part of the page that updates by itself."""

    refresh: Callable[[Any], Sequence[Any] | None]
    """Takes the value of `seen`; returns updates for `outputs` and `seen`, or None if nothing has changed."""
    outputs: Sequence[Any]
    seen: gr.State
    """The version that the page already shows."""


@dataclass(frozen=True)
class Pulse:
    """Two texts that change with what the page shows."""

    news: str
    """With what people wait for: a job that comes, starts, is in another phase or has ended, and the engine's state."""
    all: str
    """With anything that a `LivePart` shows, including progress."""

    def __str__(self) -> str:
        return f"{self.news}|{self.all}"


def pulse_of(studio: Studio) -> Pulse:
    """Return the pulse of this moment."""
    status = studio.supervisor.status()
    downloads = f"{studio.adapter_downloads.state().revision} {studio.model_downloads.state().revision}"
    downloads += f" {studio.image_downloads.state().revision}"
    others = f"{downloads} {studio.presets.revision} {studio.library.revision}"
    news = f"{studio.store.turning_points()} {status.condition} {hash(status)}"
    return Pulse(news, f"{studio.store.change_counter()} {others}")


async def next_pulse(studio: Studio, known: str) -> Pulse:
    """Return the pulse once it differs from the known one, which is the text of another; at the latest after `HOLD`."""
    known_news = known.partition("|")[0]
    start = time.monotonic()
    while True:
        now = await run_in_threadpool(pulse_of, studio)
        waited = time.monotonic() - start
        if now.news != known_news or waited >= HOLD_SECONDS or (waited >= PROGRESS_SECONDS and str(now) != known):
            return now
        await asyncio.sleep(LOOK_SECONDS)


def build_pulse(lost: str) -> gr.HTML:
    """Add the component with the events `beat`, on any change, and `table`, on a change while the queue is visible.

    `lost` is its HTML, which `pulse.js` shows while the server does not answer.
    """
    script = (Path(__file__).parent / "pulse.js").read_text(encoding="utf-8")
    return gr.HTML(lost, js_on_load=script, elem_id="pulse", apply_default_css=False)


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
        event(refresh, [part.seen for part in parts], outputs, **LATEST)
