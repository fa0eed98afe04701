"""The Queue tab: all jobs, live, to be reordered, edited, cancelled and retried.

Everything comes from the store, so a reload, a second browser or a phone shows the same. The table is requested only
while its tab is open, and sent only if something changed.
"""

from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from ovi_studio.services.studio import Studio
from ovi_studio.web.events import EACH, LATEST, PRIVATE
from ovi_studio.web.tabs.create.tab import CreateForm
from ovi_studio.web.tabs.queue import texts
from ovi_studio.web.tabs.queue.handlers import ALL, QueueHandlers
from ovi_studio.web.toasts import Toasts

_TEMPLATE = f"""
<ol class="jobs" aria-label="{texts.JOBS}"></ol><p class="none" hidden></p>
<div class="pager" hidden><button type="button" data-page="-1">{texts.EARLIER}</button><span class="place"></span>
<button type="button" data-page="1">{texts.LATER}</button></div>
"""
_BATCHES_SCRIPT = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-batch]");
  if (button) trigger("choose", { batch: Number(button.dataset.batch) });
});
"""
_FILTER_NAMES = [(title, name) for name, title in texts.FILTERS.items()]


@dataclass(frozen=True)
class QueueComponents:
    """The components of the tab."""

    summary: gr.HTML
    table: gr.HTML
    batch: gr.Dropdown
    which: gr.Radio
    text: gr.Textbox
    pause: gr.Button
    cancel: gr.Button
    retry: gr.Button
    clear: gr.Button
    page: gr.State
    seen: gr.State

    @property
    def view(self) -> list[gr.components.Component]:
        """The components that decide which jobs are shown."""
        return [self.seen, self.batch, self.which, self.text, self.page]

    @property
    def shown(self) -> list[gr.components.Component]:
        """The components that a refresh updates."""
        return [self.summary, self.table, self.batch, self.pause, self.cancel, self.retry, self.clear, self.seen]


def build_queue(
    studio: Studio, form: CreateForm, tabs: gr.Tabs, page: gr.Blocks, pulse: gr.HTML, toasts: Toasts
) -> None:
    """Build the tab; its table is refreshed by the pulse's event `table`."""
    tab = _build()
    handlers = QueueHandlers(studio, form, toasts)
    for event in (pulse.table, page.load):
        event(handlers.refresh, tab.view, tab.shown, **LATEST)
    gr.on(
        [tab.batch.input, tab.which.input, tab.text.change],
        handlers.apply_filters,
        tab.view,
        [*tab.shown, tab.page],
        **LATEST,
    )
    tab.summary.choose(handlers.choose_batch, tab.view, [*tab.shown, tab.page], **LATEST)
    after = [*tab.shown, tab.page, toasts.component]
    # Every click counts, also one during a running action.
    tab.table.act(handlers.act, tab.view, [*after, *form.outputs, tabs], **EACH)
    for button, handler in (
        (tab.pause, handlers.pause),
        (tab.cancel, handlers.cancel_waiting),
        (tab.retry, handlers.retry),
        (tab.clear, handlers.clear),
    ):
        button.click(handler, tab.view, after, **PRIVATE)


def _build() -> QueueComponents:
    with gr.Row(elem_id="queue-top"):
        with gr.Column(scale=4, min_width=280):
            summary = gr.HTML(elem_id="queue-summary", js_on_load=_BATCHES_SCRIPT)
        with gr.Row(elem_id="queue-buttons", scale=3):
            pause = gr.Button(texts.PAUSE, elem_id="pause", size="md", min_width=80)
            cancel = gr.Button(texts.CANCEL_ALL, elem_id="cancel-all", size="md", min_width=100)
            retry = gr.Button(texts.RETRY_ALL, elem_id="retry-all", size="md", min_width=100)
            clear = gr.Button(texts.CLEAR, elem_id="clear", size="md", min_width=140)
    with gr.Row(elem_id="queue-filter"):
        which = gr.Radio(
            _FILTER_NAMES, value=ALL, label=texts.SHOW, elem_id="queue-which", elem_classes="segments", min_width=260
        )
        batch = gr.Dropdown([(texts.ALL_BATCHES, 0)], value=0, label=texts.BATCH, elem_id="queue-batch", min_width=200)
        text = gr.Textbox(
            "", label=texts.SEARCH_LABEL, placeholder=texts.SEARCH, max_length=200, max_lines=1, min_width=160
        )
    script = (Path(__file__).parent / "queue.js").read_text(encoding="utf-8")
    table = gr.HTML({}, html_template=_TEMPLATE, js_on_load=script, elem_id="queue", apply_default_css=False)
    return QueueComponents(
        summary, table, batch, which, text, pause, cancel, retry, clear, gr.State(0), gr.State((-1, (), ()))
    )
