"""The settings in the System tab: what the engine is started with. Saved for everybody, and over restarts."""

from typing import Any, Protocol

import gradio as gr

from ovi_studio.core.errors import JobError
from ovi_studio.engine.fleet import Fleet
from ovi_studio.queue.store import Store
from ovi_studio.runtime.declared import Setting
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.runtime.settings import EngineSettings, keep_settings, read_settings
from ovi_studio.web.events import PRIVATE
from ovi_studio.web.views import notice_html

_NOT_CHOSEN = "auto"
"""Stands in a list for None, which a browser cannot send back as a choice."""


class Shelf(Protocol):
    """The part of `Studio` that this panel uses."""

    store: Store
    supervisor: Fleet
    options: RuntimeOptions


def build_settings(studio: Shelf, shown: Any) -> None:
    """The panel; `shown` is the event listener of the tab's coming into view."""
    given = studio.options
    settings = given.settings()
    lists = [name for name, setting in settings.items() if setting.choices is not None]
    ticks = [name for name, setting in settings.items() if setting.choices is None]
    fields: dict[str, Any] = {}
    with gr.Column(elem_id="settings"):
        for start in range(0, len(lists), 2):
            with gr.Row():
                for name in lists[start : start + 2]:
                    fields[name] = _list(name, settings[name], given)
        for name in ticks:
            fields[name] = _tick(name, settings[name], given)
        previews = gr.Checkbox(label="Live preview", info="A small picture of a clip every few steps.")
        save = gr.Button("Save and restart the engine", elem_id="save-settings", size="md")
        notice = gr.HTML(elem_classes="fleeting")

    def look() -> Any:
        kept = read_settings(studio.store.database)
        options = given.over(kept.options)
        return (*(_to_field(name, settings[name], getattr(options, name)) for name in fields), kept.previews)

    def keep(*values: Any) -> str:
        chosen = {name: _from_field(value) for name, value in zip(fields, values, strict=False)}
        try:
            options = type(given).from_json({name: value for name, value in chosen.items() if not given.given(name)})
            keep_settings(studio.store.database, EngineSettings(options, bool(values[-1])))
        except JobError as error:
            return notice_html(str(error), "Not saved")
        studio.supervisor.restart()
        return (
            '<div class="notice good" role="status"><p>Saved. The engine starts anew after its current step; a job '
            "that runs begins again.</p></div>"
        )

    boxes = [*fields.values(), previews]
    shown(look, None, boxes, **PRIVATE)
    save.click(keep, boxes, notice, **PRIVATE)


def _list(name: str, setting: Setting, given: RuntimeOptions) -> gr.Dropdown:
    choices = [(title, _to_field(name, setting, value)) for title, value in setting.choices()]
    return gr.Dropdown(choices, filterable=False, elem_id=f"setting-{name}", **_labels(name, setting, given))


def _tick(name: str, setting: Setting, given: RuntimeOptions) -> gr.Checkbox:
    return gr.Checkbox(elem_id=f"setting-{name}", **_labels(name, setting, given))


def _labels(name: str, setting: Setting, given: RuntimeOptions) -> dict[str, Any]:
    fixed = given.given(name)
    info = "Fixed by the command line." if fixed else setting.info
    return {"label": setting.label, "info": info, "interactive": not fixed}


def _to_field(name: str, setting: Setting, value: Any) -> Any:
    if setting.choices is None:
        return bool(value)
    return {None: _NOT_CHOSEN, True: "on", False: "off"}.get(value, value)


def _from_field(value: Any) -> Any:
    """None: what would be done anyway."""
    return {_NOT_CHOSEN: None, "on": True, "off": False, False: None}.get(value, value)
