"""The header: name, line of state, tools, and the notices below; the tabs' bar joins it where there is room."""

from typing import Any

import gradio as gr

from ovi_studio.queue.model import JobState
from ovi_studio.services.studio import Studio
from ovi_studio.web import texts as common
from ovi_studio.web.events import EACH, PRIVATE
from ovi_studio.web.header import texts, views
from ovi_studio.web.live import LivePart, build_pulse
from ovi_studio.web.public_text import public_status

_NAME = f"""
<header class="masthead">
  <svg viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="9"/>
    <path d="M9 13v6M13 9.5v13M17 12v8M21 8v16M25 13.5v5" transform="translate(-1 0)"/></svg>
  <h1>{common.NAME}</h1>
</header>
"""
_BELL = "M6 17V11a6 6 0 0 1 12 0v6l1.5 2h-15zM10 21h4"
_MOON = "M20 14.5A8 8 0 0 1 9.5 4a8 8 0 1 0 10.5 10.5z"
_QUESTION = "M8.5 9a3.5 3.5 0 1 1 5.2 3.1c-1.1.6-1.7 1.2-1.7 2.4M12 18.2v.1"
_TOOLS_SCRIPT = 'document.dispatchEvent(new Event("ovi:theme"))'
_NEWS_SCRIPT = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-dismiss]");
  if (button) trigger("dismiss", { notice: Number(button.dataset.dismiss) });
});
"""


def build_header(studio: Studio) -> tuple[gr.HTML, LivePart]:
    """Build the header; returns the pulse, and the line and the notices, which follow the engine."""
    with gr.Row(elem_id="top"):
        gr.HTML(_NAME, elem_id="masthead")
        line = gr.HTML(elem_id="engine")
        pulse = build_pulse(views.lost_html())
        gr.HTML(_tools(), elem_id="tools", js_on_load=_TOOLS_SCRIPT)
    news = gr.HTML(elem_id="news", js_on_load=_NEWS_SCRIPT)
    restart = gr.Button(texts.RESTART, elem_id="restart", visible=False)
    return pulse, _connect(studio, line, news, restart)


def _tools() -> str:
    return (
        _tool("bell", _BELL, texts.BELL, f'aria-pressed="false" title="{texts.BELL_HINT}"')
        + _tool("theme", _MOON, texts.THEME)
        + _tool("help", _QUESTION, texts.HELP, f'title="{texts.HELP_HINT}" aria-haspopup="dialog"')
    )


def _tool(name: str, path: str, label: str, more: str = "") -> str:
    return (
        f'<button type="button" id="{name}" aria-label="{label}" {more}><svg viewBox="0 0 24 24" aria-hidden="true">'
        f'<path d="{path}"/></svg></button>'
    )


def _connect(studio: Studio, line: gr.HTML, news: gr.HTML, restart: gr.Button) -> LivePart:
    def refresh(known: tuple[Any, ...]) -> Any:
        now = studio.store.change_counter(), studio.supervisor.status()
        if now == known:
            return None
        down = now[1].condition in ("down", "stopped")
        return _line(studio), _news(studio), gr.Button(visible=down), now

    def dismiss(event: gr.EventData) -> None:
        notice = event._data.get("notice")
        if isinstance(notice, int):
            studio.store.database.dismiss_notice(notice)

    news.dismiss(dismiss, None, None, **EACH)
    restart.click(studio.supervisor.restart, None, None, **PRIVATE)
    return LivePart(refresh, [line, news, restart], gr.State(()))


def _line(studio: Studio) -> str:
    store = studio.store
    first, counts = store.jobs(states=[JobState.RUNNING], limit=1), store.counts()
    status = studio.supervisor.status()
    return views.engine_html(status, store.engines(), first, counts, studio.time_left(), store.paused)


def _news(studio: Studio) -> str:
    """Render trouble with the engine, notices, and the data about batches for the page's script."""
    status = studio.supervisor.status()
    trouble = views.trouble_html(public_status(status) if studio.open_to_all else status)
    shown = trouble + views.notices_html(studio.store.database.notices())
    return shown + views.batch_news(studio.store.batches(limit=20))
