"""The whole page: the header with the engine's status, and the tabs. Serve it with `theme.launch_options()`."""

import gradio as gr

from ovi_studio.services.studio import Studio
from ovi_studio.web import texts
from ovi_studio.web.api import build_api
from ovi_studio.web.drop.drop import build_drop
from ovi_studio.web.header import build_header
from ovi_studio.web.improving import build_improving
from ovi_studio.web.keyboard import build_keyboard
from ovi_studio.web.live import connect
from ovi_studio.web.page_errors import answer_in_sentences
from ovi_studio.web.public_text import written_for_anyone
from ovi_studio.web.sessions import forget_old_sessions
from ovi_studio.web.tabs.registry import TABS, PageContext
from ovi_studio.web.toasts import Toasts

CACHE_SECONDS = (3600, 24 * 3600)
"""Seconds between clean-ups of uploads and shown copies, and the age at which they are deleted."""


def build_studio(studio: Studio) -> gr.Blocks:
    """Build the page; its `launch` needs `theme.launch_options()` and the routes of `media_routes`."""
    written_for_anyone(studio.open_to_all)
    with gr.Blocks(title=texts.NAME, analytics_enabled=False, delete_cache=CACHE_SECONDS, fill_width=True) as page:
        # First, so that the endpoints get their names before handlers of the same name.
        build_api(studio)
        pulse, head = build_header(studio)
        toasts = Toasts(studio.undo)
        build_keyboard({tab.title: tab.shortcuts for tab in TABS})
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap") as tabs:
            context = PageContext(studio, page, tabs, pulse, toasts, live=[head])
            for tab in TABS:
                with gr.Tab(tab.title, id=tab.id):
                    tab.build(context)
        build_drop(studio.intake, context.form, tabs, toasts)
        build_improving(studio.improvements, toasts)
        forget_old_sessions(page)
        connect(context.live, [pulse.beat, page.load])
    answer_in_sentences(page)
    return page
