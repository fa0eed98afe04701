"""The whole page: the line about the engine, and the tabs. `launch_options` has what serving it needs."""

from typing import Any

import gradio as gr

from ovi_studio.studio import Studio
from ovi_studio.ui import views
from ovi_studio.ui.api import build_api
from ovi_studio.ui.create_handlers import PRIVATE, build_create
from ovi_studio.ui.create_tab import CreateForm
from ovi_studio.ui.library_tab import build_library
from ovi_studio.ui.queue_tab import build_queue, engine_line
from ovi_studio.ui.system_tab import build_system
from ovi_studio.ui.templates_tab import build_templates

POLL_SECONDS = 0.5
CACHE_SECONDS = (3600, 24 * 3600)
"""How often uploads and shown copies are looked at, and at which age they are deleted."""
_ENGINE_SCRIPT = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-dismiss]");
  if (button) trigger("dismiss", { notice: Number(button.dataset.dismiss) });
});
"""
_BELL = (
    '<button type="button" id="bell" aria-pressed="false" title="Sound and notification when a batch is done">'
    '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M6 17V11a6 6 0 0 1 12 0v6l1.5 2h-15zM10 21h4"/></svg>'
    "<span>Tell me when done</span></button>"
)


def build_studio(studio: Studio) -> gr.Blocks:
    """The page; its `launch` needs `theme.launch_options()` and the routes of `media_routes`."""
    with gr.Blocks(title="Ovi Studio", analytics_enabled=False, delete_cache=CACHE_SECONDS, fill_width=True) as page:
        # First: handlers of the page that have the same name would take it.
        build_api(studio)
        ticking = gr.Timer(POLL_SECONDS)
        with gr.Row(elem_id="top"):
            gr.HTML(views.HEADER)
            gr.HTML(_BELL, elem_id="bell-place")
        engine = gr.HTML(elem_id="engine", js_on_load=_ENGINE_SCRIPT)
        restart = gr.Button("Start the engine again", elem_id="restart", visible=False)
        _connect_engine(studio, page, ticking, engine, restart)
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Create", id="create"):
                form = build_create(studio, ticking, page)
            with gr.Tab("Queue", id="queue") as queue:
                table_ticking = build_queue(studio, form, tabs, page)
            _build_others(studio, form, tabs)
        # The table is asked for only while it is seen.
        for tab in tabs.children:
            tab.select(lambda seen=tab is queue: gr.Timer(active=seen), None, table_ticking, **PRIVATE)
    return page


def _build_others(studio: Studio, form: CreateForm, tabs: gr.Tabs) -> None:
    with gr.Tab("Library", id="library"):
        build_library(studio, form, tabs)
    with gr.Tab("Templates", id="templates"):
        build_templates(studio, form, tabs)
    with gr.Tab("System", id="system"):
        build_system(studio, form, tabs)


def _connect_engine(studio: Studio, page: gr.Blocks, ticking: gr.Timer, line: gr.HTML, restart: gr.Button) -> None:
    seen = gr.State(("", False))

    def refresh(known: tuple[str, bool]) -> Any:
        now = studio.store.change_counter(), studio.supervisor.status()
        if now == known:
            return gr.skip()
        return engine_line(studio), gr.Button(visible=now[1].condition in ("down", "stopped")), now

    def dismiss(event: gr.EventData) -> None:
        notice = event._data.get("notice")
        if isinstance(notice, int):
            studio.store.database.dismiss_notice(notice)

    gr.on([ticking.tick, page.load], refresh, seen, [line, restart, seen], **PRIVATE)
    line.dismiss(dismiss, None, None, **PRIVATE)
    restart.click(studio.supervisor.restart, None, None, **PRIVATE)
