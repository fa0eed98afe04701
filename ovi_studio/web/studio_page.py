"""The whole page: the header with the engine's status, and the tabs. Serve it with `theme.launch_options()`."""

from typing import Any

import gradio as gr

from ovi_studio.queue.model import JobState
from ovi_studio.services.studio import Studio
from ovi_studio.web import job_views, views
from ovi_studio.web.api import build_api
from ovi_studio.web.events import PRIVATE
from ovi_studio.web.live import LivePart, build_pulse, connect
from ovi_studio.web.page_errors import answer_in_sentences
from ovi_studio.web.public_text import public_status
from ovi_studio.web.sessions import forget_old_sessions
from ovi_studio.web.tabs.registry import TABS, PageContext
from ovi_studio.web.toasts import Toasts

CACHE_SECONDS = (3600, 24 * 3600)
"""Seconds between clean-ups of uploads and shown copies, and the age at which they are deleted."""
_NEWS_SCRIPT = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-dismiss]");
  if (button) trigger("dismiss", { notice: Number(button.dataset.dismiss) });
});
"""
_BELL = (
    '<button type="button" id="bell" aria-pressed="false" title="Sound and notification when a batch is done">'
    '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M6 17V11a6 6 0 0 1 12 0v6l1.5 2h-15zM10 21h4"/></svg>'
    "<span>Notify me when done</span></button>"
)

_THEME = (
    '<button type="button" id="theme"><svg viewBox="0 0 24 24" aria-hidden="true">'
    '<path d="M20 14.5A8 8 0 0 1 9.5 4a8 8 0 1 0 10.5 10.5z"/></svg></button>'
)

_THEME_SCRIPT = 'document.dispatchEvent(new Event("ovi:theme"))'


def build_studio(studio: Studio, *, open_to_all: bool = False) -> gr.Blocks:
    """Build the page; its `launch` needs `theme.launch_options()` and the routes of `media_routes`.

    Args:
        studio: the services.
        open_to_all: anyone may open the page, so it says nothing about this machine's folders and shows no log.
    """
    with gr.Blocks(title="Ovi Studio", analytics_enabled=False, delete_cache=CACHE_SECONDS, fill_width=True) as page:
        # First, so that the endpoints get their names before handlers of the same name.
        build_api(studio)
        with gr.Row(elem_id="top"):
            gr.HTML(views.HEADER, elem_id="masthead")
            engine = gr.HTML(elem_id="engine")
            gr.HTML(_BELL, elem_id="bell-place")
            gr.HTML(_THEME, elem_id="theme-place", js_on_load=_THEME_SCRIPT)
        pulse = build_pulse()
        toasts = Toasts(studio.undo)
        news = gr.HTML(elem_id="news", js_on_load=_NEWS_SCRIPT)
        restart = gr.Button("Restart the engine", elem_id="restart", visible=False)
        head = _connect_engine(studio, engine, news, restart, open_to_all)
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap") as tabs:
            context = PageContext(studio, page, tabs, pulse, toasts, open_to_all, live=[head])
            for tab in TABS:
                with gr.Tab(tab.title, id=tab.id):
                    tab.build(context)
        forget_old_sessions(page)
        connect(context.live, [pulse.beat, page.load])
    answer_in_sentences(page)
    return page


def _connect_engine(studio: Studio, line: gr.HTML, news: gr.HTML, restart: gr.Button, open_to_all: bool) -> LivePart:
    def refresh(known: tuple[Any, ...]) -> Any:
        now = studio.store.change_counter(), studio.supervisor.status()
        if now == known:
            return None
        down = now[1].condition in ("down", "stopped")
        return _engine_line(studio), _news(studio, open_to_all), gr.Button(visible=down), now

    def dismiss(event: gr.EventData) -> None:
        notice = event._data.get("notice")
        if isinstance(notice, int):
            studio.store.database.dismiss_notice(notice)

    news.dismiss(dismiss, None, None, **PRIVATE)
    restart.click(studio.supervisor.restart, None, None, **PRIVATE)
    return LivePart(refresh, [line, news, restart], gr.State(()))


def _engine_line(studio: Studio) -> str:
    store = studio.store
    engines = store.engines()
    running = studio.current_job()
    left = running.progress.seconds_left if running and running.progress else None
    waiting = store.counts()[JobState.QUEUED]
    supervision = studio.supervisor.status()
    return job_views.engine_html(
        supervision, engines[0] if engines else None, waiting, studio.estimate_queue(), left, store.paused
    )


def _news(studio: Studio, open_to_all: bool) -> str:
    """Render trouble with the engine, notices, and the data about batches for the page's script."""
    status = studio.supervisor.status()
    trouble = job_views.trouble_html(public_status(status) if open_to_all else status)
    shown = trouble + job_views.notices_html(studio.store.database.notices())
    return shown + job_views.batch_news(studio.store.batches(limit=20))
